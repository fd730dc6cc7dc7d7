"""What a LESS kernel is: flat arrays of groups in, segments with their support or compat multipliers out.

Flow: `GroupArrays` and `SegmentRule` -> `Kernels.find_support`, `Kernels.paint` or `Kernels.compat_multipliers`.
Inputs were checked by the caller (`shaping/less.py`, or the records of a run); kernels check nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray, IntArray
from shaping.support import GroupSupport

Membership = Literal["lt", "le"]
Outside = Literal["share", "keep"]
Scope = Literal["response", "group"]
Match = Literal["segment", "kgram"]

MAX_MIN_LENGTH = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupArrays:
    """One group of G responses with N tokens in all, responses one after another.

    Args:
        tokens: [N] int32, compared only for equality.
        entropies: [N] float32 nats, finite.
        offsets: [G + 1] int64; response i is [offsets[i], offsets[i + 1]) and may be empty.
        correct: [G] bool.
    """

    tokens: IntArray
    entropies: FloatArray
    offsets: NDArray[np.int64]
    correct: BoolArray

    @property
    def lengths(self) -> list[int]:
        """[G] tokens of each response."""
        lengths: list[int] = np.diff(self.offsets).tolist()
        return lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRule:
    """Which tokens are low-entropy, which runs of them are segments, and when two segments have a string in common.

    Args:
        quantile: in (0, 1). The threshold is the k-th smallest entropy (0-based) of the scope's n tokens,
            k = min(round(quantile * n), n - 1): an order statistic, never interpolated.
        min_length: shortest segment in tokens (mu), from 1 to 2**31 - 1.
        membership: "lt": a token equal to the threshold breaks a run; "le": it belongs to the run.
        scope: whose tokens set the threshold: each response's own, or those of the whole group.
        match: "segment": a rollout holds a segment when the whole string lies inside one of its segments; "kgram": the
            strings are all min_length-grams inside segments, and a segment's counts are the largest of its own grams.
    """

    quantile: float = 0.8
    min_length: int = 5
    membership: Membership = "lt"
    scope: Scope = "response"
    match: Match = "segment"

    def __post_init__(self) -> None:
        if not isinstance(self.quantile, Real) or not 0 < self.quantile < 1:
            raise ValueError(f"quantile must be in (0, 1), got {self.quantile!r}")
        if not isinstance(self.min_length, Integral) or isinstance(self.min_length, bool):
            raise ValueError(f"min_length must be a whole number, got {self.min_length!r}")
        if self.min_length < 1:
            raise ValueError(f"min_length must be >= 1, got {self.min_length}")
        if self.min_length > MAX_MIN_LENGTH:
            raise ValueError(f"min_length must be <= {MAX_MIN_LENGTH}, got {self.min_length}")
        # Numbers of numpy's are taken as Python's: for another type numba would compile everything once more.
        object.__setattr__(self, "quantile", float(self.quantile))
        object.__setattr__(self, "min_length", int(self.min_length))
        check_choice("membership", self.membership, Membership)
        check_choice("scope", self.scope, Scope)
        check_choice("match", self.match, Match)


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse a value that a Literal does not list.

    Raises:
        ValueError: naming what exists.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")


class Kernels(Protocol):
    """Groups are independent: a group's result does not depend on the others of the call.

    Groups are taken one after another as results are asked for, so that they need not all exist at once. Results are
    written to arrays of the caller, groups one after another: one large array is far cheaper to fill for the first time
    than many small ones.
    """

    def find_support(
        self, groups: Iterable[GroupArrays], rule: SegmentRule, token_support: IntArray
    ) -> Iterator[tuple[GroupArrays, GroupSupport]]:
        """Thresholds, segments and support by containment (less.md 1.3); invariant to the order of responses.

        Args:
            token_support: [sum of N] int32, filled; each `GroupSupport` holds its own part.
        """
        ...

    def paint(self, group: GroupArrays, support: GroupSupport, outside: Outside, multipliers: FloatArray) -> None:
        """Fill [N] multipliers of the containment rule: 0 SHARED, k/N support k, 1/N STRAY (1 if "keep"), else 1."""
        ...

    def compat_multipliers(
        self, groups: Iterable[GroupArrays], rule: SegmentRule, outside: Outside, multipliers: FloatArray
    ) -> None:
        """Fill [sum of N] multipliers: the authors' greedy matching in the given order of responses (less.md 1.2).

        `rule.match` is "segment".
        """
        ...
