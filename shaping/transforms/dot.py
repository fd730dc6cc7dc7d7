"""dot: cuts outlying long responses of groups that succeed, and has what is left of them judged again.

Formula: in a group of at least two rollouts with share of correct ones >= `min_success_rate`, and lengths L,
T = floor(mean(L) + alpha std(L)), std unbiased (n - 1). Response i is cut to T tokens where L_i - T >= m; m is
`min_excess` tokens, or, where that is below 1, this share of L_i, at least 16 tokens. Cut short, it mostly is wrong.
Signals: the verdicts, and the text of tokens.
Order: before `drop_uniform`, or a group that is all correct is gone; before `hapo_history`, which reads lengths; before
`keep_class`, after which every rollout succeeds.
Source: DOT, "Anti-Length Shift" (January 2026; its arXiv id was not found), as its released code computes it: alpha 3,
m 32, success rate 1, groups of 32, with KL-Cov.
Deviations: none in the cut. The over-sampling of prompts by a predicted share of useful groups is not in this file, and
the losses here average over all tokens, where the release averages over each response first.
One outlier among n lies at most (n - 1) / sqrt(n) deviations above the mean: with alpha 3 nothing is ever cut in groups
of fewer than 11, of which `lessrl plan` warns.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shaping.groups import ScoredGroup
from shaping.metrics import Mean
from shaping.signals import Signal
from shaping.transforms.base import Cut

NEEDS = frozenset({Signal.VERDICTS, Signal.TOKEN_TEXT})

CONFLICTS = {
    "seele": "responses behind hints are shorter by what they were given, and whole ones would be the outliers",
    "hinted_second_round": "responses behind hints are shorter by what they were given, and whole ones would be the "
    "outliers",
}

IDENTITY = {"kind": "", "options": {"min_excess": 1e9}}

MIN_SHARED_EXCESS = 16
"""Least excess in tokens where `min_excess` is a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    min_success_rate: share of correct rollouts from which a group is cut, in [0, 1].
    alpha: standard deviations above the mean at which a response ends.
    min_excess: least number of tokens beyond that for which it is cut; below 1 a share of the response.
    """

    min_success_rate: float = 1.0
    alpha: float = 3.0
    min_excess: float = 32.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_success_rate <= 1:
            raise ValueError(f"min_success_rate must be in [0, 1], got {self.min_success_rate}")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be >= 0 and finite, got {self.alpha}")
        if not 0 < self.min_excess < math.inf:
            raise ValueError(f"min_excess must be > 0 and finite, got {self.min_excess}")


@dataclass(frozen=True, slots=True)
class Dot:
    config: Config

    def transform(self, scored: ScoredGroup) -> Cut:
        lengths = [rollout.num_tokens for rollout in scored.group.rollouts]
        kept = lengths
        if scored.correct.mean() >= self.config.min_success_rate:
            kept = kept_lengths(lengths, self.config)
        num_cut = sum(short < length for short, length in zip(kept, lengths, strict=True))
        return Cut(lengths=tuple(kept), metrics={"dot_cut_responses_share": Mean(num_cut, len(lengths))})


def kept_lengths(lengths: list[int], config: Config) -> list[int]:
    """Tokens that stay of each response of a group that is cut."""
    if len(lengths) < 2:
        return lengths
    # Sorted: the sums, and with them the limit, must not depend on the order of the rollouts.
    values = np.sort(np.array(lengths, np.float64))
    limit = math.floor(values.mean() + config.alpha * values.std(ddof=1))
    return [limit if length - limit >= _least_excess(length, config.min_excess) else length for length in lengths]


def _least_excess(length: int, min_excess: float) -> float:
    return max(min_excess * length, MIN_SHARED_EXCESS) if min_excess < 1 else min_excess


def warnings(config: Config, *, group_size: int) -> Iterator[str]:
    """What a recipe with groups of this size should know, for `lessrl plan`."""
    most = (group_size - 1) / math.sqrt(group_size)
    if most <= config.alpha:
        needed = next(n for n in range(group_size + 1, 10**9) if (n - 1) / math.sqrt(n) > config.alpha)
        yield (
            f"dot never cuts: one response of {group_size} is at most {most:.2f} standard deviations above the mean, "
            f"and alpha is {config.alpha:g}; set rollout.group_size to at least {needed}, or alpha below {most:.2f}"
        )


def build(config: Config) -> Dot:
    return Dot(config)
