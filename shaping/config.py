"""What a recipe may say of shaping."""

from dataclasses import dataclass, field
from typing import Literal

from shaping.components import ComponentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """One reward in the weighted sum. `options` are those of its kind."""

    kind: str
    weight: float = 1.0
    options: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """Which tokens are low-entropy and which runs of them are segments (LESS).

    Args:
        quantile: share of a response's tokens at or below its entropy threshold.
        min_length: shortest run, in tokens, that is a segment.
        membership: "lt" breaks a run at a token equal to the threshold (as the authors' code), "le" does not.
    """

    quantile: float = 0.8
    min_length: int = 5
    membership: Literal["lt", "le"] = "lt"

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must be in (0, 1), got {self.quantile}")
        if self.min_length < 1:
            raise ValueError(f"min_length must be >= 1, got {self.min_length}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapingConfig:
    """The pipeline from a group to training samples.

    Args:
        rewards: weighted and summed; exactly one of them decides which rollouts are correct.
        transforms: in order, after scoring.
        estimator: base advantages.
        segments: low-entropy segments, always measured.
        shapers: in order; multipliers multiply.
        drop_without_signal: drop groups whose advantages are all zero (counted), instead of training on them.
    """

    rewards: tuple[RewardConfig, ...] = (RewardConfig(kind="math_answer"),)
    transforms: tuple[ComponentSpec, ...] = ()
    estimator: ComponentSpec = ComponentSpec(kind="grpo")
    segments: SegmentConfig = SegmentConfig()
    shapers: tuple[ComponentSpec, ...] = (ComponentSpec(kind="less"),)
    drop_without_signal: bool = False

    def __post_init__(self) -> None:
        if not self.rewards:
            raise ValueError("rewards must name at least one reward")
