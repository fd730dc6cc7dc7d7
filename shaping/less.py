"""LESS: correctness-aware low-entropy segment shaping, as arithmetic on arrays.

`multipliers` is the front door for anyone with numpy: responses, token entropies and correctness of one group in,
per-token multipliers of the advantages out. The pipeline reaches the same painting through `shaping/segments.py` and
`shaping/shapers/less.py`. Knows no records of a run and no advantages.

Rule (containment, less.md 1.3): with N the number of rollouts of the token's own class, a token is multiplied by
0 where a low-entropy string held by both classes covers it; by k/N where the best covering string is held by k rollouts
of its class; by 1/N where it is low-entropy but in no run of the minimum length; by 1 elsewhere.
Source: LESS (arXiv:2512.00908) and the authors' code. Deviation: the code matches greedily in batch order and keeps one
position per response; here every occurrence counts and order does not matter. No multiplier exceeds 1.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shaping.checks import BoolArray, FloatArray, IntArray
from shaping.containment import SHARED, class_sizes, find_support
from shaping.segments import entropy_threshold, low_entropy_runs

MODES = ("containment",)
OUTSIDE = ("share", "keep")


def multipliers(
    responses: Sequence[ArrayLike],
    entropies: Sequence[ArrayLike],
    correct: ArrayLike,
    *,
    min_length: int = 5,
    quantile: float = 0.8,
    membership: Literal["lt", "le"] = "lt",
    outside: Literal["share", "keep"] = "share",
    mode: str = "containment",
) -> list[FloatArray]:
    """Multipliers of one group.

    Args:
        responses: G integer arrays [T], token ids (compared only for equality). A response may be empty.
        entropies: G arrays [T], nats, of the policy at temperature 1; used as float32.
        correct: [G] bool.
        min_length: shortest segment in tokens (mu), >= 1.
        quantile: share of a response's tokens that are low-entropy, in (0, 1).
        membership: whether a token equal to the threshold breaks a segment ("lt") or belongs to it ("le").
        outside: multiplier of low-entropy tokens in no segment: "share" 1/N, "keep" 1.
        mode: "containment", the order-free rule.
    Returns:
        G arrays [T] float32 in [0, 1].
    Raises:
        ValueError: an empty group, lengths that differ, ids that are no 32-bit integers, entropies that are not finite,
            or an option with an unknown value.
    """
    check_options(min_length=min_length, quantile=quantile, outside=outside, mode=mode)
    ids, nats, flags = _check_group(responses, entropies, correct)
    thresholds = [entropy_threshold(row, quantile) for row in nats]
    runs = [
        low_entropy_runs(row, threshold, min_length=min_length, membership=membership)
        for row, threshold in zip(nats, thresholds, strict=True)
    ]
    support = find_support(ids, runs, flags.tolist(), min_length=min_length)
    return [
        paint_multipliers(row, low=nat <= np.float32(threshold), class_size=size, outside=outside)
        for row, nat, threshold, size in zip(
            support.token_support, nats, thresholds, class_sizes(flags).tolist(), strict=True
        )
    ]


def check_options(*, min_length: int, quantile: float, outside: str, mode: str) -> None:
    """Refuse options of the LESS rule that do not exist.

    Raises:
        ValueError: naming what exists.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if outside not in OUTSIDE:
        raise ValueError(f"outside must be one of {', '.join(OUTSIDE)}, got {outside!r}")
    if min_length < 1:
        raise ValueError(f"min_length must be >= 1, got {min_length}")
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be in (0, 1), got {quantile}")


def paint_multipliers(token_support: IntArray, *, low: BoolArray, class_size: int, outside: str) -> FloatArray:
    """Multipliers of one response.

    Args:
        token_support: [T] int32, see `GroupSupport`.
        low: [T] bool, entropy at or below the threshold.
        class_size: N, rollouts of this response's class.
        outside: "share" or "keep", for low tokens in no segment.
    Returns:
        [T] float32.
    """
    # 1/N in double before the product: its float32 rounding is part of the rule's exact values.
    share = 1.0 / class_size
    values = np.where(low, share, 1.0) if outside == "share" else np.ones(len(low))
    values = np.where(token_support > 0, share * token_support, values)
    return np.where(token_support == SHARED, 0.0, values).astype(np.float32)


def _check_group(
    responses: Sequence[ArrayLike], entropies: Sequence[ArrayLike], correct: ArrayLike
) -> tuple[list[IntArray], list[FloatArray], BoolArray]:
    flags = np.asarray(correct)
    if len(responses) == 0:
        raise ValueError("a group must hold at least one response, got none")
    if flags.shape != (len(responses),) or len(entropies) != len(responses):
        raise ValueError(
            f"responses, entropies and correct must have one entry per rollout, got {len(responses)}, "
            f"{len(entropies)} and shape {flags.shape}"
        )
    if flags.dtype.kind not in "biu":
        raise ValueError(f"correct must be boolean, got {flags.dtype}")
    ids, nats = [], []
    for index, (response, row) in enumerate(zip(responses, entropies, strict=True)):
        ids.append(_check_ids(np.asarray(response), index))
        nats.append(np.asarray(row, dtype=np.float32))
        if nats[-1].shape != ids[-1].shape:
            raise ValueError(
                f"entropies must have one entry per token, got shape {nats[-1].shape} for {len(ids[-1])} tokens "
                f"(response {index})"
            )
        if not np.isfinite(nats[-1]).all():
            raise ValueError(f"entropies must be finite, found NaN or infinity (response {index})")
    return ids, nats, flags.astype(np.bool_)


def _check_ids(response: NDArray[np.int64], index: int) -> IntArray:
    if response.size == 0:
        return np.zeros(0, np.int32)
    limits = np.iinfo(np.int32)
    if response.ndim != 1 or response.dtype.kind not in "iu":
        raise ValueError(f"a response must be a one-dimensional integer array, got {response.dtype} (response {index})")
    if int(response.min()) < limits.min or int(response.max()) > limits.max:
        raise ValueError(f"token ids must fit 32 bits (response {index})")
    return response.astype(np.int32)
