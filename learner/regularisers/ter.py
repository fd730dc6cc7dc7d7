"""TER: holds the policy's entropy at a target: loss term coefficient x |mean token entropy - target|.

The mean is over all trained tokens of the update, so the term is no sum over micro-batches: the side of the target on
which the update lies is found by a forward pass before the gradient, and each micro-batch adds its share of
coefficient x sign x (mean - target). Needs that entropy (UPDATE_ENTROPY) and entropies with a gradient.
Source: Confucius3-Math (arXiv:2506.18330), section on targeted entropy regularisation, with its coefficient and target.
Deviations: none known; the mean is taken over the whole update, whose scope the paper does not say. At the target
itself there is no gradient.
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
    coefficient: >= 0, or a schedule over learner steps.
    target_nats: mean token entropy to hold.
    """

    coefficient: float | ComponentSpec = 0.001
    target_nats: float = 0.55

    def __post_init__(self) -> None:
        if isinstance(self.coefficient, int | float) and self.coefficient < 0:
            raise ValueError(f"coefficient must be >= 0, got {self.coefficient}")
        if self.target_nats < 0:
            raise ValueError(f"target_nats must be >= 0, got {self.target_nats}")


NEEDS = frozenset({Signal.DIFFERENTIABLE_ENTROPIES, Signal.UPDATE_ENTROPY})
CONFLICTS = {
    "entropy_bonus": "both are terms on the mean token entropy: the one pushes it on, the other holds it at a target",
}
IDENTITY = {"kind": "", "options": {"coefficient": 0.0}}


class TargetedEntropy:
    """The distance of the mean entropy of trained tokens from a target."""

    def __init__(self, config: Config) -> None:
        self._coefficient = schedule_of(config.coefficient, "ter.coefficient")
        self._target = config.target_nats

    def term(self, inputs: RegulariserInputs) -> LossOutput:
        assert inputs.update_entropy is not None, "the learner supplies what NEEDS names"
        sign = (inputs.update_entropy > self._target) - (inputs.update_entropy < self._target)
        # Token by token, so that the shares of the target add up with those of the entropy.
        excess = token_mean(inputs.policy_entropies - self._target, inputs.loss_mask, inputs.num_valid_tokens)
        return LossOutput(loss=self._coefficient.value(inputs.step) * sign * excess)


def build(config: Config) -> TargetedEntropy:
    return TargetedEntropy(config)
