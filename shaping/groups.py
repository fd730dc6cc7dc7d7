"""Records of hops 4 to 6: verdicts, scored, segmented and shaped groups, and groups that are dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from shaping.checks import BoolArray, FloatArray, IntArray, check_floats, require, split_rows
from shaping.kernels.base import GroupArrays, SegmentRule
from shaping.records import RolloutGroup
from shaping.support import GroupSupport, Segments


class VerdictStatus(StrEnum):
    """Outcome of one verification.

    UNPARSABLE (no answer, or none that can be read) and TOO_LONG (beyond what a verifier may be given) are the policy's
    doing: decided, and not correct. TIMED_OUT and CRASHED (also: a reference that nothing can be compared with) are no
    verdict at all: the rollout is excluded and counted, never scored 0.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    TOO_LONG = "too_long"


class DropReason(StrEnum):
    """Why a group was not trained."""

    NO_SIGNAL = "no_signal"
    NO_VERDICT = "no_verdict"
    EMPTY = "empty"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier says of one response.

    Args:
        status: the outcome.
        extracted: the answer found in the response; "" when none was found.
        detail: one line for a person; "" when there is nothing to say.
    """

    status: VerdictStatus
    extracted: str = ""
    detail: str = ""

    @property
    def correct(self) -> bool:
        return self.status is VerdictStatus.CORRECT

    @property
    def is_decided(self) -> bool:
        """Whether this is a verdict at all."""
        return self.status not in (VerdictStatus.TIMED_OUT, VerdictStatus.CRASHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """A group whose every rollout has a verdict.

    Args:
        group: the rollouts that were decided; those without a verdict are left out and counted in `excluded`.
        rewards: [G] float32, the weighted sum of the parts.
        reward_parts: named parts, each [G] float32: those of the rewards before weighting, those of transforms as they
            were added.
        verdicts: [G], the correctness verdict of each rollout.
        excluded: verdicts of the rollouts left out.
        remembered: what the run is to remember of the prompt from now on, by name.
    """

    group: RolloutGroup
    rewards: FloatArray
    reward_parts: dict[str, FloatArray]
    verdicts: tuple[Verdict, ...]
    excluded: tuple[Verdict, ...] = ()
    remembered: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"ScoredGroup {self.group.group_id}"
        size = self.group.group_size
        check_floats(self.rewards, size, "rewards", where)
        for name, part in self.reward_parts.items():
            check_floats(part, size, f"reward_parts[{name}]", where)
        require(len(self.verdicts) == size, f"verdicts must have {size} entries, got {len(self.verdicts)}", where)
        require(all(v.is_decided for v in self.verdicts), "every kept rollout must have a verdict", where)
        require(not any(v.is_decided for v in self.excluded), "excluded rollouts must have no verdict", where)

    @property
    def correct(self) -> BoolArray:
        """[G] bool."""
        return np.array([v.correct for v in self.verdicts], dtype=np.bool_)


def keep_rollouts(scored: ScoredGroup, indices: Sequence[int]) -> ScoredGroup:
    """The group with these rollouts alone, at least one, in this order."""
    rows = list(indices)
    return replace(
        scored,
        group=replace(scored.group, rollouts=tuple(scored.group.rollouts[row] for row in rows)),
        rewards=scored.rewards[rows],
        reward_parts={name: part[rows] for name, part in scored.reward_parts.items()},
        verdicts=tuple(scored.verdicts[row] for row in rows),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedGroup:
    """A scored group with its entropy thresholds, its low-entropy segments and who has them.

    Args:
        arrays: the group's tokens, entropies and verdicts, flat.
        rule: what made the segments.
    """

    scored: ScoredGroup
    arrays: GroupArrays
    rule: SegmentRule
    support: GroupSupport

    def __post_init__(self) -> None:
        where = f"SegmentedGroup {self.scored.group.group_id}"
        num_tokens = self.scored.group.num_response_tokens
        check_floats(self.support.thresholds, self.scored.group.group_size, "thresholds", where)
        found = self.support.token_support
        require(
            found.shape == (num_tokens,) and found.dtype == np.int32,
            f"token_support must be int32 of shape ({num_tokens},), got {found.dtype}{found.shape}",
            where,
        )
        segments, lengths = self.support.segments, np.diff(self.arrays.offsets)
        inside = (
            (segments.starts >= 0) & (segments.starts < segments.stops) & (segments.stops <= lengths[segments.rows])
        )
        require(bool(inside.all()), "segments must lie inside their response and hold a token", where)

    @property
    def thresholds(self) -> FloatArray:
        """[G] float32 nats; 0 for an empty response."""
        return self.support.thresholds

    @property
    def segments(self) -> Segments:
        return self.support.segments

    @property
    def token_support(self) -> tuple[IntArray, ...]:
        """Per rollout [T] int32, see `GroupSupport`."""
        return split_rows(self.support.token_support, self.arrays.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedGroup:
    """A segmented group with its advantages before and after shaping.

    Args:
        base_advantages: per rollout [T] float32, from the advantage estimator.
        multipliers: per rollout [T] float32, the product of all shapers.
        advantages: per rollout [T] float32, base times multiplier.
    """

    segmented: SegmentedGroup
    base_advantages: tuple[FloatArray, ...]
    multipliers: tuple[FloatArray, ...]
    advantages: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        group = self.segmented.scored.group
        where = f"ShapedGroup {group.group_id}"
        for name in ("base_advantages", "multipliers", "advantages"):
            rows = getattr(self, name)
            require(len(rows) == group.group_size, f"{name} must have {group.group_size} rows, got {len(rows)}", where)
            for rollout, row in zip(group.rollouts, rows, strict=True):
                check_floats(row, rollout.num_tokens, name, where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A group that is not trained, and why.

    Args:
        detail: one line for a person.
        excluded: verdicts of its rollouts, where the reason is that none of them was decided.
    """

    reason: DropReason
    detail: str = ""
    excluded: tuple[Verdict, ...] = ()
