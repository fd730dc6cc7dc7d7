"""hapo_history: pays responses that are shorter than the prompt's shortest correct one so far, and takes from longer.

Formula, with response length L in tokens and h from the prompt's correct responses of earlier visits, none of which
there may be: without h the term is 0. Shape "cosine": c = cos(pi L / 2h) for L < 2h, else -1; a correct response earns
max(`floor`, c), another min(0, c). Shape "linear": x = 1 - L/h for L < h, 0 for L < 1.1h, else -(L - 1.1h)/h; a correct
response earns max(`floor`, x), another max(-1, min(0, x)). The reward grows by `weight` times the term. After the group
h is the least correct length, or with `aggregate: mean` the mean of all, those of this group included.
Signals: the verdicts. Recalls and remembers `hapo_tokens` (h) and `hapo_num_correct` (responses that it follows from).
Order: before `drop_uniform`: a group that is dropped before its turn teaches nothing here, one dropped later does.
Source: HAPO (History-Aware, arXiv:2505.11225) and its released code: cosine, weight 1, floor -0.7, least length.
Deviations: empty responses do not count as correct for h. Groups of one prompt that are under way at one time recall
the same h, and what the last of them remembers stays.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray
from shaping.groups import ScoredGroup
from shaping.kernels.base import check_choice
from shaping.signals import Signal

NEEDS = frozenset({Signal.VERDICTS})

CONFLICTS = {
    "seele": "a response behind a hint is shorter than a whole one, and would be the length that others are held to",
    "hinted_second_round": "a response behind a hint is shorter than a whole one, and would be the length that others "
    "are held to",
}

IDENTITY = {"kind": "", "options": {"weight": 0.0}}

TOKENS, NUM_CORRECT = "hapo_tokens", "hapo_num_correct"

FREE_SHARE = 0.1
"""Of h, how much longer a response may be in the linear shape before anything is taken."""

Shape = Literal["cosine", "linear"]
Aggregate = Literal["min", "mean"]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    weight: of the term in the reward.
    shape: of the term over the length.
    floor: least term of a correct response, in [-1, 0].
    aggregate: what h is of the correct lengths.
    """

    weight: float = 1.0
    shape: Shape = "cosine"
    floor: float = -0.7
    aggregate: Aggregate = "min"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight must be >= 0 and finite, got {self.weight}")
        if not -1 <= self.floor <= 0:
            raise ValueError(f"floor must be in [-1, 0], got {self.floor}")
        check_choice("shape", self.shape, Shape)
        check_choice("aggregate", self.aggregate, Aggregate)


@dataclass(frozen=True, slots=True)
class HapoHistory:
    config: Config

    def transform(self, scored: ScoredGroup) -> ScoredGroup:
        lengths = np.array([rollout.num_tokens for rollout in scored.group.rollouts], np.float64)
        recalled = scored.group.recalled
        added = self.config.weight * length_terms(lengths, scored.correct, recalled.get(TOKENS, 0.0), self.config)
        learned = updated(recalled, lengths[scored.correct & (lengths > 0)], self.config.aggregate)
        return replace(
            scored,
            rewards=(scored.rewards + added).astype(np.float32),
            reward_parts={**scored.reward_parts, "hapo_history": added.astype(np.float32)},
            remembered={**scored.remembered, **learned},
        )


def length_terms(lengths: Values, correct: BoolArray, history: float, config: Config) -> Values:
    """[G] terms, before the weight; `history` is h in tokens, 0 for none."""
    if not history:
        return np.zeros(len(lengths))
    ratio = lengths / history
    if config.shape == "cosine":
        values = np.where(ratio < 2, np.cos(np.pi / 2 * ratio), -1.0)
    else:
        # Products, not quotients: the border of 1.1 h belongs to it.
        beyond = np.minimum(0.0, ((1 + FREE_SHARE) * history - lengths) / history)
        values = np.where(lengths < history, 1 - ratio, beyond)
    return np.where(correct, np.maximum(config.floor, values), np.clip(values, -1.0, 0.0))


def updated(recalled: Mapping[str, float], correct_lengths: NDArray[Any], aggregate: Aggregate) -> dict[str, float]:
    """What is to be remembered after a group with these correct lengths; nothing where there are none."""
    if not len(correct_lengths):
        return {}
    before, num_before = recalled.get(TOKENS, 0.0), recalled.get(NUM_CORRECT, 0.0)
    number = num_before + len(correct_lengths)
    if aggregate == "mean":
        tokens = (before * num_before + float(correct_lengths.sum())) / number
    else:
        tokens = float(correct_lengths.min())
        tokens = min(before, tokens) if before else tokens
    return {TOKENS: tokens, NUM_CORRECT: number}


def build(config: Config) -> HapoHistory:
    return HapoHistory(config)
