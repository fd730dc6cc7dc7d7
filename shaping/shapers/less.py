"""less: correctness-aware low-entropy segment shaping, in its order-free containment mode.

Formula (N rollouts of the token's own class): 0 where a low-entropy string held by both classes covers the token; k/N
where the best covering string is held by k rollouts of its class; 1/N on other low-entropy tokens (1 with
`outside: keep`); 1 elsewhere. Which runs are segments is set by the recipe's `shaping.segments`.
Source: LESS (arXiv:2512.00908), the authors' code; less.md 1.3. Deviation: see `shaping/less.py`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shaping.checks import FloatArray
from shaping.containment import class_sizes
from shaping.groups import SegmentedGroup
from shaping.less import MODES, paint_multipliers
from shaping.metrics import Mean, Metric
from shaping.shapers.base import ShaperResult
from shaping.signals import Signal

NEEDS = frozenset({Signal.RAW_ENTROPIES, Signal.VERDICTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    outside: multiplier of low-entropy tokens in no segment: "share" 1/N, "keep" 1.
    mode: "containment", the order-free rule.
    """

    outside: Literal["share", "keep"] = "share"
    mode: str = "containment"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")


@dataclass(frozen=True, slots=True)
class Less:
    config: Config

    def multipliers(self, segmented: SegmentedGroup, advantages: tuple[FloatArray, ...]) -> ShaperResult:
        sizes = class_sizes(segmented.scored.correct).tolist()
        rows = tuple(
            paint_multipliers(support, low=rollout.entropies <= threshold, class_size=size, outside=self.config.outside)
            for rollout, threshold, support, size in zip(
                segmented.scored.group.rollouts, segmented.thresholds, segmented.token_support, sizes, strict=True
            )
        )
        return ShaperResult(multipliers=rows, metrics=_measure(rows, advantages, sizes))


def build(config: Config) -> Less:
    return Less(config)


def _measure(rows: tuple[FloatArray, ...], advantages: tuple[FloatArray, ...], sizes: list[int]) -> dict[str, Metric]:
    """Shares of tokens by multiplier (1/N counts as 1 where N is 1), and the advantage mass that is left."""
    zero = full = single = 0
    kept = net = mass = 0.0
    for row, advantage, size in zip(rows, advantages, sizes, strict=True):
        is_full = row == 1
        zero += int((row == 0).sum())
        full += int(is_full.sum())
        single += int(((row == np.float32(1.0 / size)) & ~is_full).sum())
        before = advantage.astype(np.float64)
        mass += float(np.abs(before).sum())
        kept += float(np.abs(before * row).sum())
        net += float((before * row).sum())
    total = sum(len(row) for row in rows)
    return {
        "less_zero_tokens_share": Mean(zero, total),
        "less_single_tokens_share": Mean(single, total),
        "less_partial_tokens_share": Mean(total - zero - single - full, total),
        "less_full_tokens_share": Mean(full, total),
        "less_kept_mass_share": Mean(kept, mass),
        "less_net_mass_share": Mean(net, mass),
    }
