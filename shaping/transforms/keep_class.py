"""keep_class: keep the correct rollouts of a group, or the wrong ones, and leave the others out altogether.

What is left out is in no token mean and no count of trained rollouts; a group with nothing left is dropped (reason
filtered). Shapers that compare the classes, like `less`, see one class only.
Signals: the verdicts.
Source: PSR (correct) and NSR (wrong) of arXiv:2506.01347, together with the estimator `w_reinforce`.
Deviations: none known.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shaping.groups import Drop, DropReason, ScoredGroup, keep_rollouts
from shaping.kernels.base import check_choice
from shaping.signals import Signal

NEEDS = frozenset({Signal.VERDICTS})

CONFLICTS = {
    "drop_uniform": "the rollouts of one class mostly have one reward, and groups of one class are those that it drops",
}

Kept = Literal["correct", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    keep: the rollouts that stay; "wrong" are all that are not correct.
    """

    keep: Kept = "correct"

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, Kept)


@dataclass(frozen=True, slots=True)
class KeepClass:
    config: Config

    def transform(self, scored: ScoredGroup) -> ScoredGroup | Drop:
        wanted = scored.correct == (self.config.keep == "correct")
        if wanted.all():
            return scored
        if not wanted.any():
            detail = f"keep_class: none of {len(wanted)} rollouts is {self.config.keep}"
            return Drop(reason=DropReason.FILTERED, detail=detail)
        return keep_rollouts(scored, np.flatnonzero(wanted).tolist())


def build(config: Config) -> KeepClass:
    return KeepClass(config)
