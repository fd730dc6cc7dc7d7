"""Live changes that took, as a run remembers them: in its checkpoints, and in `changes.jsonl` of its directory.

    {"generation": 2, "step": 12, "values": {"learner.optimizer.learning_rate": 2e-06}}

One line per change, in the order in which they took; `step` is the first learner step, from 1, that it held for. A run
that goes on from an earlier checkpoint makes each of them again at its step, and so does a new run that is given them
(`lessrl train RECIPE --changes FILE`).
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.live.document import find_owner
from services.live.keys import recipe_after
from services.recipe import Recipe
from services.reports import LiveChange
from shaping.errors import CheckpointError, DataError

CHANGES_FILE = "changes.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedChange:
    """A live change that took.

    Args:
        step: first learner step, from 1, that it held for.
        values: by dotted key.
    """

    generation: int
    step: int
    values: Mapping[str, Any]

    def as_order(self) -> LiveChange:
        """The same, to be made at that step."""
        return LiveChange(generation=self.generation, values=self.values, at_step=self.step)

    def __str__(self) -> str:
        told = ", ".join(f"{key} is {value!r}" for key, value in self.values.items())
        return f"{told} from step {self.step} on (generation {self.generation})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """What became of the live changes of a run: part of its checkpoints.

    Args:
        applied: in the order in which they took.
        refused: generations that could not be applied.
        scheduled: that are to be made at a later step, which is known.
    """

    applied: tuple[AppliedChange, ...] = ()
    refused: tuple[int, ...] = ()
    scheduled: tuple[AppliedChange, ...] = ()

    @property
    def generations(self) -> frozenset[int]:
        """Those that nothing is to be done about any more."""
        return frozenset({*self.refused, *(each.generation for each in self.applied)})

    def recipe(self, base: Recipe) -> Recipe:
        """The recipe that holds."""
        return recipe_after(base, (each.values for each in self.applied))

    def as_json(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "applied": [asdict(each) for each in self.applied],
            "refused": list(self.refused),
            "scheduled": [asdict(each) for each in self.scheduled],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "LiveState":
        """Read `as_json` back; nothing is the state of a run without changes.

        Raises:
            CheckpointError: not such a state.
        """
        try:
            applied, scheduled = (tuple(map(_read, plain.get(name, ()))) for name in ("applied", "scheduled"))
            refused = tuple(int(each) for each in plain.get("refused", ()))
            return cls(applied=applied, refused=refused, scheduled=scheduled)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"live changes must be as they were saved, found {error!r} (run_state.json)"
            ) from error


class ChangeFile:
    """Appends changes that took to `changes.jsonl`; one that is there already is not written again.

    Raises:
        DataError: a line of the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists():
            # What a killed process left of a line would spoil the next one.
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self.recorded = read_changes(path) if path.exists() else ()
        self._known = {(each.generation, each.at_step) for each in self.recorded}

    def write(self, change: AppliedChange) -> None:
        """Write one line to stable storage. A disk that takes none is told; the checkpoints hold the change as well."""
        place = (change.generation, change.step)
        if place in self._known:
            return
        self._known.add(place)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(change)) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            logger.warning("a live change is not in %s: %s (%s)", self._path.name, error.strerror, change)


def read_changes(path: Path) -> tuple[LiveChange, ...]:
    """The changes of a `changes.jsonl`, each with the step at which it is to be made.

    Raises:
        DataError: no such file, or a line that is no change. A last line without its end, which a killed process
            leaves, is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"live changes must be a file of JSON lines, found {error} ({path})") from error
    changes = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            read = _read(json.loads(line))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise DataError(
                f'a line must be {{"generation": 2, "step": 12, "values": {{...}}}}, found {error!r} (line {number} of '
                f"{path})"
            ) from error
        changes.append(read.as_order())
    return tuple(changes)


def recipe_at(base: Recipe, changes: Iterable[LiveChange], step: int) -> Recipe:
    """The recipe that learner step `step`, from 1, was trained by."""
    held = [each for each in changes if each.at_step is not None and each.at_step <= step]
    return recipe_after(base, (each.values for each in held))


def with_live_changes(history: Sequence[Mapping[str, Any]], base: Recipe, state: LiveState) -> list[dict[str, Any]]:
    """The config history of a run with its live changes: entries that name a generation.

    Args:
        history: one entry per recipe that a process of the run began with.
        base: the recipe that holds without live changes.
    """
    entries = without_live_changes(history)
    before = base
    for each in state.applied:
        after = recipe_after(before, [each.values])
        plain = before.as_dict()
        entries.append(
            {
                "step": each.step - 1,
                "recipe_hash": after.content_hash,
                "generation": each.generation,
                "changes": [
                    {"key": key, "before": _value(plain, key), "after": new} for key, new in each.values.items()
                ],
            }
        )
        before = after
    return entries


def without_live_changes(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Only what processes of the run began with."""
    return [dict(each) for each in history if "generation" not in each]


def _value(plain: dict[str, Any], key: str) -> Any:
    owner, name = find_owner(plain, key)
    return owner.get(name)


def _read(plain: Mapping[str, Any]) -> AppliedChange:
    known = {"generation", "step", "values"}
    if set(plain) != known:
        raise ValueError(f"members {sorted(plain)}")
    generation, step, values = plain["generation"], plain["step"], plain["values"]
    if not all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in (generation, step)):
        raise ValueError(f"generation {generation!r} and step {step!r}, which must be whole numbers above 0")
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"values {values!r}")
    return AppliedChange(generation=generation, step=step, values=dict(values))
