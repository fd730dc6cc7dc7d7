"""A live change of a run's config: checked against the recipe that is in force, kept as a generation, told to the run.

Blocking where it says so: plug-ins may have to be imported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.control.draft import Draft
from services.control.machine import Refused
from services.control.records import ConfigGeneration, RunRecord
from services.live.keys import LiveRefused, border_of, changed_recipe, held_already, read_patch, recipe_after
from services.recipe import Recipe
from shaping.errors import RecipeError

FIRST_GENERATION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingValue:
    """A new value that the run has not taken yet, and the border at which it will."""

    value: Any
    applies: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAnswer:
    """What became of a patch.

    Args:
        generation: of the config after it; as before where it changed nothing.
        applied: members that had these values already.
        pending: members that the run will take.
    """

    generation: int
    applied: Mapping[str, Any] = field(default_factory=dict)
    pending: Mapping[str, PendingValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPatch:
    """A patch that can be made: its values by dotted key, those that change nothing apart."""

    new: Mapping[str, Any]
    same: Mapping[str, Any]


def base_recipe(record: RunRecord) -> Recipe:
    """The recipe that the run's processes were started with.

    Raises:
        RecipeError: this version of lessrl cannot read it.
    """
    where = f"the recipe of {record.run_id}"
    return Recipe.parse(record.description.recipe, base_dir=Path(record.description.run_dir), where=where)


def current_recipe(record: RunRecord, configs: Iterable[ConfigGeneration]) -> Recipe:
    """The recipe with every live change, those that are still pending included. Blocks.

    Raises:
        RecipeError: this version of lessrl cannot read it.
    """
    return recipe_after(base_recipe(record), (each.values for each in configs if not each.error))


def check_patch(
    record: RunRecord, configs: Iterable[ConfigGeneration], patch: Mapping[str, Any]
) -> CheckedPatch | Refused:
    """Read a patch against the recipe that is in force. Blocks."""
    try:
        base, now = base_recipe(record), current_recipe(record, configs)
        values = read_patch(now, patch, base=base, finished_steps=record.step)
        changed_recipe(now, values, base=base)
    except LiveRefused as refused:
        return Refused(slug="key-not-live", detail=f"cannot change this: {refused}", problems=refused.problems)
    except RecipeError as error:
        return Refused(slug="validation", detail=f"the config cannot be changed: {error}")
    same = held_already(now, values)
    return CheckedPatch(new={key: value for key, value in values.items() if key not in same}, same=same)


def add_generation(draft: Draft, checked: CheckedPatch, by: str) -> ConfigAnswer:
    """Put a checked patch into a draft."""
    record = draft.record
    if not checked.new:
        return ConfigAnswer(generation=record.config_generation, applied=checked.same)
    generation = record.config_generation + 1
    border = border_of(checked.new).value
    config = ConfigGeneration(
        run_id=record.run_id,
        generation=generation,
        at=draft.now,
        by=by,
        values=dict(checked.new),
        applies=dict.fromkeys(checked.new, border),
    )
    draft.configure(config, rises=True)
    told = ", ".join(f"{key}={value}" for key, value in checked.new.items())
    details = {"generation": generation, "values": dict(checked.new), "applies": border, "by": by}
    draft.log("config_changed", f"generation {generation}: {told}", details=details)
    pending = {key: PendingValue(value=value, applies=border) for key, value in checked.new.items()}
    return ConfigAnswer(generation=generation, applied=checked.same, pending=pending)
