"""What a group transform is."""

from typing import Protocol

from shaping.groups import Drop, ScoredGroup


class GroupTransform(Protocol):
    """A scored group to a scored group (kept or changed), or to a Drop that says why."""

    def transform(self, scored: ScoredGroup) -> ScoredGroup | Drop: ...
