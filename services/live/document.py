"""Places of dotted live keys in a recipe as plain data, where components of a list go by their kind."""

from typing import Any

from services.live.rows import LiveRow
from shaping.errors import RecipeError


def find_owner(plain: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds a key, and the key's own name there. An option may stand there or have its default.

    Raises:
        RecipeError: no such place.
    """
    *parents, name = key.split(".")
    node: Any = plain
    for parent in parents:
        node = _child(node, parent)
        if not isinstance(node, dict | list):
            raise RecipeError(f"a key must be one of the recipe's, found no {parent!r} ({key})")
    if not isinstance(node, dict):
        raise RecipeError(f"a key must be one of the recipe's, found a list ({key})")
    return node, name


def has_key(plain: dict[str, Any], row: LiveRow) -> bool:
    """Whether a recipe has the place of a live key: for an option, the one component of its kind."""
    return not missing_place(plain, row)


def missing_place(plain: dict[str, Any], row: LiveRow) -> str:
    """Why a recipe has no such place; "" where it has."""
    if row.slot:
        owner, name = find_owner(plain, row.slot)
        kind = owner[name]["kind"]
        return "" if kind == row.component else f"{row.slot} is {kind}, and only {row.component} has it"
    *parents, _ = row.key.split(".")
    node: Any = plain
    for index, parent in enumerate(parents):
        if isinstance(node, list):
            number = sum(each["kind"] == parent for each in node)
            if number != 1:
                where = ".".join(parents[:index])
                found = "none" if not number else f"{number}, which one is not clear"
                return f"{where} must have one {parent} for it, found {found}"
        node = _child(node, parent)
    return ""


def _child(node: Any, name: str) -> Any:
    if isinstance(node, list):
        return next((each for each in node if isinstance(each, dict) and each.get("kind") == name), None)
    return node.get(name)
