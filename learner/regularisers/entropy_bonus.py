"""Reward entropy: loss term -coefficient x mean token entropy over trained tokens.

A negative coefficient lowers entropy. The entropy is over the full vocabulary and carries its own gradient.
Coefficient 0 is the loss without this term.
Source: Williams and Peng 1991; Mnih et al. 2016 (arXiv:1602.01783).
"""

from dataclasses import dataclass

from learner.losses.base import LossOutput, token_mean
from learner.regularisers.base import RegulariserInputs
from shaping.components import ComponentSpec
from shaping.scheduling import schedule_of
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    coefficient: of the entropy, or a schedule of it over learner steps.
    """

    coefficient: float | ComponentSpec = 0.001


NEEDS = frozenset({Signal.DIFFERENTIABLE_ENTROPIES})
IDENTITY = {"kind": "", "options": {"coefficient": 0.0}}


class EntropyBonus:
    """The mean entropy of trained tokens, with a minus."""

    def __init__(self, config: Config) -> None:
        self._coefficient = schedule_of(config.coefficient, "entropy_bonus.coefficient")

    def term(self, inputs: RegulariserInputs) -> LossOutput:
        mean = token_mean(inputs.policy_entropies, inputs.loss_mask, inputs.num_valid_tokens)
        return LossOutput(loss=-self._coefficient.value(inputs.step) * mean)


def build(config: Config) -> EntropyBonus:
    return EntropyBonus(config)
