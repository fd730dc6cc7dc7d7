"""cosine: linear warm-up to `peak`, then half a cosine down to `floor`.

Formula: peak * (step + 1) / warmup_steps before `warmup_steps` (the first step is not 0, the last warm-up step is the
peak); then floor + (peak - floor) * (1 + cos(pi * p)) / 2, p = (step - warmup_steps) / (total_steps - warmup_steps),
and `floor` from `total_steps` on. With floor = peak it is a warm-up to a constant.
Source: Loshchilov & Hutter 2017 (SGDR, arXiv:1608.03983), one cycle.
"""

import math
from dataclasses import dataclass

from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    peak: value after the warm-up.
    floor: value at `total_steps` and after it.
    warmup_steps: 0 starts at the peak.
    total_steps: learner steps, warm-up included; more than `warmup_steps`.
    """

    peak: float = 1.0
    floor: float = 0.0
    warmup_steps: int = 0
    total_steps: int = 1000

    def __post_init__(self) -> None:
        if not (math.isfinite(self.peak) and math.isfinite(self.floor)):
            raise ValueError(f"peak and floor must be finite, got {self.peak} and {self.floor}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be >= 0, got {self.warmup_steps}")
        if self.total_steps <= self.warmup_steps:
            raise ValueError(f"total_steps must be > warmup_steps = {self.warmup_steps}, got {self.total_steps}")


@dataclass(frozen=True, slots=True)
class Cosine:
    config: Config

    def value(self, step: int) -> float:
        config = self.config
        if step < config.warmup_steps:
            return config.peak * (step + 1) / config.warmup_steps
        progress = min((step - config.warmup_steps) / (config.total_steps - config.warmup_steps), 1.0)
        return config.floor + (config.peak - config.floor) * (1.0 + math.cos(math.pi * progress)) / 2.0


def build(config: Config) -> Cosine:
    return Cosine(config)
