"""uniform: multiplier 1 everywhere, that is: no shaping. The identity to compare other shapers with."""

from dataclasses import dataclass

import numpy as np

from shaping.checks import FloatArray
from shaping.groups import SegmentedGroup
from shaping.shapers.base import ShaperResult
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """No options."""


@dataclass(frozen=True, slots=True)
class Uniform:
    config: Config

    def multipliers(self, segmented: SegmentedGroup, advantages: tuple[FloatArray, ...]) -> ShaperResult:
        del segmented
        return ShaperResult(multipliers=tuple(np.ones(len(row), np.float32) for row in advantages))


def build(config: Config) -> Uniform:
    return Uniform(config)
