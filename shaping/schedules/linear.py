"""linear: from `start` at step 0 to `stop` at step `steps`, and `stop` from there on."""

import math
from dataclasses import dataclass

from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    start: value at step 0.
    stop: value at step `steps` and after it.
    steps: learner steps from one to the other, >= 1.
    """

    start: float = 1.0
    stop: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.stop)):
            raise ValueError(f"start and stop must be finite, got {self.start} and {self.stop}")
        if self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}")


@dataclass(frozen=True, slots=True)
class Linear:
    config: Config

    def value(self, step: int) -> float:
        progress = min(step / self.config.steps, 1.0)
        return (1.0 - progress) * self.config.start + progress * self.config.stop


def build(config: Config) -> Linear:
    return Linear(config)
