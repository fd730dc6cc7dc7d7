"""What a recipe may say of shaping."""

from dataclasses import dataclass, field

from shaping.components import ComponentSpec
from shaping.kernels.base import SegmentRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """One reward in the weighted sum. `options` are those of its kind."""

    kind: str
    weight: float = 1.0
    options: dict[str, object] = field(default_factory=dict)


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
    segments: SegmentRule = SegmentRule()
    shapers: tuple[ComponentSpec, ...] = (ComponentSpec(kind="less"),)
    drop_without_signal: bool = False

    def __post_init__(self) -> None:
        if not self.rewards:
            raise ValueError("rewards must name at least one reward")
