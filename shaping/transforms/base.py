"""What a group transform is, and what it may answer beside a group or a drop."""

from dataclasses import dataclass, field
from typing import Protocol

from shaping.groups import Drop, ScoredGroup
from shaping.metrics import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Responses that end early: the pipeline cuts them, decodes them anew and has them judged again.

    A file that may answer this needs Signal.TOKEN_TEXT.

    Args:
        lengths: [G] tokens to keep of each rollout; one that has no more than that stays as it is, bit for bit.
        metrics: what the transform counted.
    """

    lengths: tuple[int, ...]
    metrics: dict[str, Metric] = field(default_factory=dict)


class GroupTransform(Protocol):
    """A scored group to a scored group (kept or changed), to a Drop that says why, or to a Cut.

    A transform that adds to the rewards names what it added in `reward_parts`, under its kind and as it was added: a
    rollout that is cut and judged again later keeps that part.
    """

    def transform(self, scored: ScoredGroup) -> ScoredGroup | Drop | Cut: ...
