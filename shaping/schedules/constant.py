"""constant: one value at every step."""

import math
from dataclasses import dataclass

from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    value: the value; finite.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"value must be finite, got {self.value}")


@dataclass(frozen=True, slots=True)
class Constant:
    config: Config

    def value(self, step: int) -> float:
        del step
        return self.config.value


def build(config: Config) -> Constant:
    return Constant(config)
