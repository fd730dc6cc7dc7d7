"""Why a key cannot change while a run goes on, and what its user can do instead."""

import difflib
from collections.abc import Iterator
from typing import Any

from services.live.document import missing_place
from services.live.rows import ROWS
from services.recipe import Recipe
from services.recipe_changes import may_change

NEW_RUN = "begin a new run with it"

# The longest prefix that fits says why.
_REASONS = {
    "name": "it is what the run is known by; the control plane's name of a run can be changed (PATCH of the run)",
    "seed": f"it decides what is sampled; {NEW_RUN}",
    "model": f"it is the policy that the run began with; {NEW_RUN}",
    "data": f"it decides which prompts are sampled; {NEW_RUN}",
    "data.evaluation": f"accuracies of other problems would stand in one curve; {NEW_RUN}",
    "rollout": f"it decides what is sampled; {NEW_RUN}",
    "rollout.engine": f"engines are started with it, and it decides what they compute; {NEW_RUN}",
    "rollout.groups_per_step": f"steps before and after would not be the same amount of work; {NEW_RUN}",
    "rollout.group_size": f"advantages are taken within a group; {NEW_RUN}",
    "rollout.sampling": f"it decides what is sampled; {NEW_RUN}",
    "rollout.sampling.entropy_source": f"entropies before and after would not be of one distribution; {NEW_RUN}",
    "shaping": f"it decides what is learned; {NEW_RUN}",
    "shaping.rewards": f"rewards before and after would not stand in one curve; {NEW_RUN}",
    "learner": f"the learner is built with it; {NEW_RUN}",
    "learner.optimizer": f"it is part of the optimizer's state; {NEW_RUN}",
    "learner.lora": f"it decides which weights there are; {NEW_RUN}",
    "run": f"it is read when a run begins; {NEW_RUN}",
    "run.force": f"it is read when a run begins; {NEW_RUN}",
    "evaluation": f"accuracies before and after would not stand in one curve; {NEW_RUN}",
}


def why_not_live(key: str, value: Any, recipe: Recipe, base: Recipe) -> str:
    """The reason, and what to do; never empty.

    Args:
        key: dotted; not a live key of this run.
        value: that was wanted.
    """
    plain = recipe.as_dict()
    if row := next((each for each in ROWS if each.key == key), None):
        return missing_place(plain, row) or row.is_not_live(recipe, base)
    if (parent := _live_parent(key)) is not None:
        return f"{parent} takes a number, which replaces a schedule; give that"
    found = dict(_keys(plain))
    if key not in found:
        return _unknown(key, found)
    below = [each.key for each in ROWS if each.key.startswith(f"{key}.")]
    if below:
        return f"it is a section, got {_shown(value)}; name a key of it, for example {below[0]}"
    if may_change(key):
        return "it cannot change while the run goes on; stop the run, then lessrl resume RUN_DIR --set " + f"{key}=..."
    return next(_REASONS[prefix] for prefix in _prefixes(key) if prefix in _REASONS)


def _unknown(key: str, known: dict[str, Any]) -> str:
    names = [*(row.key for row in ROWS), *known]
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}?" if close else "GET /v1/capabilities lists the live keys"
    return f"unknown key; {hint}"


def _live_parent(key: str) -> str | None:
    return next((row.key for row in ROWS if key.startswith(f"{row.key}.")), None)


def _prefixes(key: str) -> Iterator[str]:
    """The key itself, then what it is in, from the inside out."""
    parts = key.split(".")
    return (".".join(parts[:number]) for number in range(len(parts), 0, -1))


def _keys(plain: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a recipe, sections included; components of a list by their kind."""
    members = plain.items() if isinstance(plain, dict) else [(each.get("kind"), each) for each in plain]
    for name, value in members:
        key = f"{prefix}{name}"
        yield key, value
        if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
            yield from _keys(value, f"{key}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
