"""What LESS does to the groups of a file, token by token, with advantages before and after.

Flow: `GroupRecord` -> entropies (exact, or one stated bound) -> `shaping.explain` -> `ExplainedGroup`. Every choice
that the file left open is kept beside the numbers, so that a view can say it. Knows no terminal and no HTML.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from services.explain.file import GroupRecord
from shaping.checks import FloatArray
from shaping.errors import DataError, UserError
from shaping.estimators.grpo import grpo_advantages
from shaping.explain import GroupExplanation, explain_group
from shaping.kernels.choice import Backend
from shaping.less import LessOptions, analyze, shape_advantages
from shaping.support import GroupSupport

Bound = Literal["lower", "upper"]

# The vectorised kernels give the same bits as the compiled ones and start at once; a file has few groups.
_BACKEND: Backend = "numpy"

_SAME_ABSOLUTE, _SAME_RELATIVE = 1e-6, 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What bounded entropies leave open in one group.

    Args:
        bound: the bound that LESS was run with.
        num_differ: tokens that are low-entropy by one bound and high-entropy by the other; None without an upper bound.
        num_certain: tokens that are low, or high, whatever the entropies are between their bounds; likewise.
    """

    bound: Bound
    num_differ: int | None
    num_certain: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedGroup:
    """One group. Tuples have one array [T] float32 per response.

    Args:
        record: what the file says.
        why: what LESS does, and why.
        entropies: those that LESS was run with.
        doubt: about them; None where they are exact.
        before: advantages before shaping: the file's, or GRPO's.
        after: multiplier times before.
        applied: advantages after shaping as the trainer had them; empty where the file does not say.
    """

    record: GroupRecord
    why: GroupExplanation
    entropies: tuple[FloatArray, ...]
    doubt: Doubt | None
    before: tuple[FloatArray, ...]
    after: tuple[FloatArray, ...]
    applied: tuple[FloatArray, ...]

    @property
    def has_computed_advantages(self) -> bool:
        return "advantages" not in self.record.numbers

    @property
    def multipliers(self) -> list[FloatArray]:
        return self.why.analysis.multipliers

    @property
    def num_tokens(self) -> int:
        return self.why.analysis.counts.num_tokens

    @property
    def kept_share(self) -> float | None:
        """Sum of |after| over sum of |before|; None where every advantage is 0."""
        return kept_share(self.before, self.after)

    @property
    def num_unlike_applied(self) -> int:
        """Tokens whose advantage after shaping is not the trainer's."""
        pairs = zip(self.applied, self.after, strict=True) if self.applied else ()
        return sum(int(unlike(applied, after).sum()) for applied, after in pairs)


def kept_share(before: Iterable[FloatArray], after: Iterable[FloatArray]) -> float | None:
    """Advantage mass after shaping over the mass before; None where there is none."""
    mass = sum(float(np.abs(row.astype(np.float64)).sum()) for row in before)
    return sum(float(np.abs(row.astype(np.float64)).sum()) for row in after) / mass if mass else None


def unlike(applied: FloatArray, after: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """[T] where two advantages differ by more than rounding."""
    return np.asarray(np.abs(applied - after) > _SAME_ABSOLUTE + _SAME_RELATIVE * np.abs(after))


def explain_record(record: GroupRecord, *, options: Mapping[str, Any], bound: Bound) -> ExplainedGroup:
    """Explain one group.

    Args:
        options: LESS options that replace those of the file, which replace the product's own.
        bound: the bound that LESS is run with where entropies are not exact.
    Raises:
        UserError: an option that does not exist or does not fit the others.
        DataError: the upper bound is wanted and the vocabulary's size is not known.
    """
    ids = [response.token_ids for response in record.responses]
    entropies = _entropies(record, bound)
    try:
        less = LessOptions(**{**record.less, **options}, backend=_BACKEND)
        why = explain_group(ids, entropies, record.correct, less)
    except ValueError as error:
        raise UserError(f"{error} (LESS options for the group in line {record.line})") from error
    before = _before(record)
    return ExplainedGroup(
        record=record,
        why=why,
        entropies=entropies,
        doubt=None if record.has_exact_entropies else _doubt(record, less, bound),
        before=before,
        after=tuple(shape_advantages(why.analysis.multipliers, before, mode=less.mode)),
        applied=_applied(record, before),
    )


def _entropies(record: GroupRecord, bound: Bound) -> tuple[FloatArray, ...]:
    if bound == "upper" and not record.has_upper_bounds:
        raise DataError(
            f"an upper bound of the entropies needs vocab_size, found none (line {record.line}): add vocab_size to the "
            "group, or leave --bound at lower"
        )
    bounds = [response.entropies for response in record.responses]
    if bound == "lower":
        return tuple(each.lower for each in bounds)
    return tuple(each.upper for each in bounds if each.upper is not None)


def _doubt(record: GroupRecord, less: LessOptions, bound: Bound) -> Doubt:
    if not record.has_upper_bounds:
        return Doubt(bound=bound, num_differ=None, num_certain=None)
    ids = [response.token_ids for response in record.responses]
    nats = {each: _entropies(record, each) for each in ("lower", "upper")}
    supports: dict[str, GroupSupport] = {
        each: analyze(ids, rows, record.correct, less).support for each, rows in nats.items()
    }
    lower, upper = supports["lower"], supports["upper"]
    # A threshold is an order statistic, so it lies between the thresholds of the two bounds.
    certain = 0
    for row in range(len(ids)):
        surely_low = nats["upper"][row] <= lower.thresholds[row]
        surely_high = nats["lower"][row] > upper.thresholds[row]
        certain += int((surely_low | surely_high).sum())
    differ = int(((lower.token_support != 0) != (upper.token_support != 0)).sum())
    return Doubt(bound=bound, num_differ=differ, num_certain=certain)


def _before(record: GroupRecord) -> tuple[FloatArray, ...]:
    if "advantages" in record.numbers:
        return tuple(response.advantages for response in record.responses)
    values = grpo_advantages(record.correct.astype(np.float32))
    return tuple(
        np.full(len(response.token_ids), value, np.float32)
        for response, value in zip(record.responses, values, strict=True)
    )


def _applied(record: GroupRecord, before: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
    if "shaped_advantages" in record.numbers:
        return tuple(response.shaped_advantages for response in record.responses)
    if "multipliers" in record.numbers:
        return tuple(row * response.multipliers for response, row in zip(record.responses, before, strict=True))
    return ()
