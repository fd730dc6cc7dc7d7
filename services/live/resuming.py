"""Going on with a run whose recipe was changed live: what `lessrl resume --set` means then. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.live.changes import LiveState, recipe_at
from services.live.document import find_owner
from services.live.keys import recipe_after
from services.recipe import Recipe
from services.recipe_changes import KeyChange, changes_on_resume, may_change
from services.reports import LiveChange
from shaping.errors import RecipeError


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedRecipe:
    """What a run goes on with.

    Args:
        base: the recipe that roles are started with; live changes come on top of it.
        changes: what differs in it from the checkpoint's.
        live: to be made at the first step, beside those that were made before: the values that the user set for keys
            that had been changed live.
    """

    base: Recipe
    changes: tuple[KeyChange, ...]
    live: tuple[LiveChange, ...]


def recipe_on_resume(
    before: Recipe,
    after: Recipe,
    overrides: Mapping[str, Any],
    *,
    state: LiveState,
    recorded: Sequence[LiveChange],
    version: int,
) -> ResumedRecipe:
    """Compare the recipe of a checkpoint with the one that a run is to go on with.

    A key that was changed live keeps its last value, whatever the recipe's file says. One that the user sets now gets
    that value as a live change of its own, so that the history of the config stays whole.

    Args:
        before: the checkpoint's recipe, without live changes.
        after: the recipe to go on with, likewise.
        overrides: what the user set in `after`, by dotted key.
        state: the live changes of the checkpoint.
        recorded: those of changes.jsonl.
        version: steps finished at the checkpoint.
    Raises:
        RecipeError: a key that must stay as it was.
    """
    made = {each.generation: each.values for each in recorded}
    made |= {each.generation: each.values for each in state.applied}
    keys = sorted({key for values in made.values() for key in values})
    chosen = [key for key in keys if any(key == name or key.startswith(f"{name}.") for name in overrides)]
    refused = [key for key in chosen if not may_change(key)]
    if refused:
        raise RecipeError(
            f"a key that was changed live must be changed live again, found {', '.join(refused)}; resume without it, "
            "then change it while the run goes on (docs/control.md)"
        )
    base = recipe_after(after, [{key: _value(before, key) for key in chosen}])
    changes = changes_on_resume(before, base)
    holds = recipe_at(state.recipe(base), _not_in(recorded, state), version + 1)
    wanted = {key: _value(after, key) for key in chosen if _value(after, key) != _value(holds, key)}
    generation = 1 + max((*made, *state.refused, *(each.generation for each in state.scheduled)), default=1)
    live = (LiveChange(generation=generation, values=wanted, at_step=version + 1),) if wanted else ()
    return ResumedRecipe(base=base, changes=changes, live=live)


def _not_in(recorded: Sequence[LiveChange], state: LiveState) -> list[LiveChange]:
    return [each for each in recorded if each.generation not in state.generations]


def _value(recipe: Recipe, key: str) -> Any:
    owner, name = find_owner(recipe.as_dict(), key)
    return owner.get(name)
