"""Live changes of a run's config: which keys there are, how a patch is read, and what recipe it leads to. Pure.

Flow: merge-patch document -> `read_patch` -> values by dotted key -> `changed_recipe` -> a recipe that works.
Components are addressed by their kind: `shaping.shapers.less.outside`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.buffer_plan import buffer_config
from services.control.calls import FieldProblem
from services.live.document import find_owner, has_key
from services.live.meanings import meaning_of
from services.live.reasons import why_not_live
from services.live.rows import ROWS, Applies, LiveRow, ValueKind
from services.plan_checks import check_recipe
from services.plugins import load_plugins
from services.recipe import Recipe
from shaping.errors import RecipeError

RESPONSE_LIMIT = "rollout.sampling.max_response_tokens"
STEPS = "run.steps"
_NOWHERE = Path("/")


class LiveRefused(RecipeError):
    """A change that cannot be made while the run goes on; `problems` says why, by member of the patch."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(each.message for each in self.problems))

    def __reduce__(self) -> tuple[object, ...]:
        return (LiveRefused, (self.problems,))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKey:
    """A key that may change while this run goes on.

    Args:
        key: dotted, with a component's kind for its place in a list.
        applies: "next_step": right before the next learner step; "next_group": at the border after a learner step, so
            that it holds for the groups that are admitted then and for the steps that they are trained in.
        kind: "number", "integer" or "choice".
        minimum, maximum: the smallest and the largest value; None where there is no such end.
        above, below: likewise, for an end that is itself no value.
        choices: of a choice.
        meaning: for a person.
    """

    key: str
    applies: str
    kind: str
    minimum: float | None
    maximum: float | None
    above: float | None
    below: float | None
    choices: tuple[str, ...]
    meaning: str


def live_keys(recipe: Recipe, *, base: Recipe | None = None) -> tuple[LiveKey, ...]:
    """Every live key of a run, in the order of the list (services/live/rows.py).

    Args:
        recipe: of the run now.
        base: that its roles were started with; None: the same.
    """
    return tuple(_live_key(row, maximum) for row, maximum in _live_rows(recipe, base or recipe))


def read_patch(
    recipe: Recipe, patch: Mapping[str, Any], *, base: Recipe | None = None, finished_steps: int = 0
) -> dict[str, Any]:
    """Read a merge-patch document (RFC 7396) of a run's config. A member may also be a dotted key.

    Args:
        recipe: of the run now, with all earlier changes.
        base: that its roles were started with; None: the same.
        finished_steps: of the run, below which its target cannot fall.
    Returns:
        The new values by dotted key; empty for an empty patch.
    Raises:
        LiveRefused: one problem for each member that cannot be.
    """
    rows = {row.key: (row, maximum) for row, maximum in _live_rows(recipe, base or recipe)}
    values: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for pointer, key, value in _members(patch, recipe, "#", ""):
        if key not in rows:
            reason = why_not_live(key, value, recipe, base or recipe)
        elif key in values:
            reason = "is given twice; name it once"
        else:
            row, maximum = rows[key]
            reason = _problem(row, maximum, value) or _finished(key, value, finished_steps)
            values[key] = float(value) if row.kind is ValueKind.NUMBER and not reason else value
        if reason:
            problems.append(FieldProblem(pointer=pointer, message=f"{key}: {reason}"))
    if problems:
        raise LiveRefused(problems)
    return values


def changed_recipe(recipe: Recipe, values: Mapping[str, Any], *, base: Recipe | None = None) -> Recipe:
    """The recipe with new values of live keys.

    Args:
        values: by dotted key, as `read_patch` returns them.
        base: that the run's roles were started with; None: the same.
    Raises:
        LiveRefused: a key that is not live, a value out of its range, or values with which the run could not go on.
    """
    values = read_patch(recipe, values, base=base)
    try:
        changed = _with_values(recipe, values)
        check_recipe(changed, load_plugins(changed, with_torch=False))
        buffer_config(changed)
    except RecipeError as error:
        pointer = f"#/{next(iter(values), '').replace('.', '/')}"
        raise LiveRefused([FieldProblem(pointer=pointer, message=str(error))]) from error
    return changed


def recipe_after(base: Recipe, changes: Iterable[Mapping[str, Any]]) -> Recipe:
    """The recipe after changes that were accepted, one after another in this order."""
    recipe = base
    for values in changes:
        recipe = _with_values(recipe, values)
    return recipe


def held_already(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the recipe has, written out; a component's default that is not counts as another."""
    plain = recipe.as_dict()
    places = {key: find_owner(plain, key) for key in values}
    return {key: values[key] for key, (owner, name) in places.items() if owner.get(name) == values[key]}


def border_of(values: Mapping[str, Any]) -> Applies:
    """At which border a change applies as a whole: the later one, where it has keys of both."""
    at_group = {row.key for row in ROWS if row.applies is Applies.NEXT_GROUP}
    return Applies.NEXT_GROUP if at_group & set(values) else Applies.NEXT_STEP


def _live_rows(recipe: Recipe, base: Recipe) -> Iterator[tuple[LiveRow, float | None]]:
    """Those of this run, each with its largest value."""
    plain = recipe.as_dict()
    for row in ROWS:
        if has_key(plain, row) and not row.is_not_live(recipe, base):
            limit = base.rollout.sampling.max_response_tokens if row.key == RESPONSE_LIMIT else row.range.maximum
            yield row, limit


def _live_key(row: LiveRow, maximum: float | None) -> LiveKey:
    return LiveKey(
        key=row.key,
        applies=row.applies.value,
        kind=row.kind.value,
        minimum=row.range.minimum,
        maximum=maximum,
        above=row.range.above,
        below=row.range.below,
        choices=row.choices,
        meaning=meaning_of(row),
    )


def _members(patch: Mapping[str, Any], recipe: Recipe, pointer: str, prefix: str) -> Iterator[tuple[str, str, Any]]:
    """JSON pointer, dotted key and value of each member of a patch that is no section of the recipe."""
    for name, value in patch.items():
        key = f"{prefix}{name}"
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, Mapping) and any(row.key.startswith(f"{key}.") for row in ROWS):
            yield from _members(value, recipe, place, f"{key}.")
        else:
            yield place, key, value


def _problem(row: LiveRow, maximum: float | None, value: Any) -> str:
    """Why a value cannot be that of the key; "" where it can."""
    if value is None:
        return "null would remove it, and a live key keeps a value; give one"
    if row.kind is ValueKind.CHOICE:
        known = ", ".join(row.choices)
        return "" if isinstance(value, str) and value in row.choices else f"must be one of {known}, got {_shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        article = "a whole number" if row.kind is ValueKind.INTEGER else "a number"
        return f"must be {article}, got {_shown(value)}"
    if row.kind is ValueKind.INTEGER and not isinstance(value, int):
        return f"must be a whole number, got {value!r}"
    if not _is_finite(value):
        return f"must be finite, got {_shown(value)}"
    if row.key == RESPONSE_LIMIT and maximum is not None and value > maximum:
        return f"must be <= {maximum:g}, got {value:g}: the engines were started for no longer responses"
    return row.range.problem(value)


def _is_finite(value: float) -> bool:
    """Also of a whole number that no float holds."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _finished(key: str, value: Any, finished_steps: int) -> str:
    if key == STEPS and value <= finished_steps:
        return f"must be > {finished_steps}, the steps that are finished, got {value}; cancel the run to end it now"
    return ""


def _with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    if not values:
        return recipe
    raw = recipe.as_dict()
    for key, value in values.items():
        owner, name = find_owner(raw, key)
        owner[name] = value
    return Recipe.parse(raw, base_dir=_NOWHERE, where="the changed config")
