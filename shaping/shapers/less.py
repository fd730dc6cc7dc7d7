"""less: correctness-aware low-entropy segment shaping.

Formula (N rollouts of the token's own class), mode "containment": 0 where a low-entropy string held by both classes
covers the token; k/N where the best covering string is held by k rollouts of its class; 1/N on other low-entropy tokens
(1 with `outside: keep`); 1 elsewhere. Mode "compat" is the authors' greedy matching in the order of the rollouts, which
also leaves rows without advantages alone. Which runs are segments is set by the recipe's `shaping.segments`.
Source: LESS (arXiv:2512.00908), the authors' code; less.md 1.2, 1.3.
"""

from dataclasses import dataclass

import numpy as np

from shaping.checks import FloatArray, split_rows
from shaping.groups import SegmentedGroup
from shaping.kernels.base import Outside, check_choice
from shaping.kernels.choice import load_kernels
from shaping.less import Mode, is_zero_row
from shaping.metrics import Mean, Metric
from shaping.shapers.base import ShaperResult
from shaping.signals import Signal
from shaping.support import class_sizes

NEEDS = frozenset({Signal.RAW_ENTROPIES, Signal.VERDICTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    mode: "containment", the order-free rule, or "compat", the authors' code in the order of the rollouts.
    outside: multiplier of low-entropy tokens in no segment: "share" 1/N, "keep" 1.
    """

    mode: Mode = "containment"
    outside: Outside = "share"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, Mode)
        check_choice("outside", self.outside, Outside)


@dataclass(frozen=True, slots=True)
class Less:
    config: Config

    def multipliers(self, segmented: SegmentedGroup, advantages: tuple[FloatArray, ...]) -> ShaperResult:
        """Factors of each rollout's tokens; mode "compat" matches its own way, whatever `shaping.segments.match` is."""
        arrays, kernels = segmented.arrays, load_kernels()
        flat = np.empty(len(arrays.tokens), np.float32)
        if self.config.mode == "compat":
            kernels.compat_multipliers([arrays], segmented.rule, self.config.outside, flat)
        else:
            kernels.paint(arrays, segmented.support, self.config.outside, flat)
        rows = split_rows(flat, arrays.lengths)
        if self.config.mode == "compat":
            for factors, advantage in zip(rows, advantages, strict=True):
                if is_zero_row(advantage):
                    factors[:] = 1.0
        return ShaperResult(multipliers=rows, metrics=_measure(segmented, flat, np.concatenate(advantages)))


def build(config: Config) -> Less:
    return Less(config)


def _measure(segmented: SegmentedGroup, flat: FloatArray, advantages: FloatArray) -> dict[str, Metric]:
    """Shares of tokens by multiplier (1/N counts as 1 where N is 1), and the advantage mass left, also per class."""
    arrays = segmented.arrays
    shares = (1.0 / class_sizes(arrays.correct)).astype(np.float32)
    total = len(flat)
    zero = total - int(np.count_nonzero(flat))
    full = int(np.count_nonzero(flat == 1))
    single = int(np.count_nonzero((flat == np.repeat(shares, arrays.lengths)) & (flat != 1)))
    before = np.abs(advantages.astype(np.float64))
    after = before * flat
    is_correct = np.repeat(arrays.correct, arrays.lengths)
    metrics: dict[str, Metric] = {
        "less_zero_tokens_share": Mean(zero, total),
        "less_single_tokens_share": Mean(single, total),
        "less_partial_tokens_share": Mean(total - zero - single - full, total),
        "less_full_tokens_share": Mean(full, total),
        "less_kept_mass_share": Mean(float(after.sum()), float(before.sum())),
        "less_net_mass_share": Mean(float((after * np.sign(advantages)).sum()), float(before.sum())),
    }
    for name, rows in (("correct", is_correct), ("incorrect", ~is_correct)):
        metrics[f"less_kept_mass_{name}_share"] = Mean(float(after[rows].sum()), float(before[rows].sum()))
    return metrics
