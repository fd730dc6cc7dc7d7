"""What a shaper is."""

from dataclasses import dataclass, field
from typing import Protocol

from shaping.checks import FloatArray
from shaping.groups import SegmentedGroup
from shaping.metrics import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class ShaperResult:
    """Multipliers per rollout [T] float32, >= 0, and what the shaper counted."""

    multipliers: tuple[FloatArray, ...]
    metrics: dict[str, Metric] = field(default_factory=dict)


class Shaper(Protocol):
    """Segmented group and the advantages so far to multipliers. Must not change its input."""

    def multipliers(self, segmented: SegmentedGroup, advantages: tuple[FloatArray, ...]) -> ShaperResult: ...
