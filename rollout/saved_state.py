"""Reading back what prompt selectors and the prompt stream saved: typed, and only into a run that it fits."""

import math
from collections.abc import Mapping

from shaping.errors import RecipeError


def check_saved(state: Mapping[str, object], *, expected: Mapping[str, object], where: str) -> None:
    """Refuse a state that was saved by a run with other data or another seed.

    Raises:
        RecipeError: an entry of `expected` is not in the state, or differs there.
    """
    for name, value in expected.items():
        if state.get(name) != value:
            raise RecipeError(
                f"a saved state must fit the run: it was saved with {name} {state.get(name)!r}, the run has {value!r}; "
                f"resume with the recipe and data it was saved with ({where})"
            )


def saved_int(state: Mapping[str, object], name: str, where: str) -> int:
    """A whole number >= 0 of a saved state.

    Raises:
        RecipeError: missing, or not such a number.
    """
    value = state.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RecipeError(f"a saved {name} must be a whole number >= 0, got {value!r} ({where})")
    return value


def saved_number(state: Mapping[str, object], name: str, where: str) -> float:
    """A number >= 0 of a saved state.

    Raises:
        RecipeError: missing, or not such a number.
    """
    value = state.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise RecipeError(f"a saved {name} must be a number >= 0, got {value!r} ({where})")
    return value


def saved_ints(state: Mapping[str, object], name: str, where: str) -> list[int]:
    """A list of whole numbers of a saved state.

    Raises:
        RecipeError: missing, or not such a list.
    """
    value = state.get(name)
    if not isinstance(value, list) or not all(isinstance(each, int) for each in value):
        raise RecipeError(f"a saved {name} must be a list of whole numbers ({where})")
    return value


def saved_mapping(state: Mapping[str, object], name: str, where: str) -> dict[str, object]:
    """A JSON object of a saved state.

    Raises:
        RecipeError: missing, or not an object.
    """
    value = state.get(name)
    if not isinstance(value, dict):
        raise RecipeError(f"a saved {name} must be an object, got {type(value).__name__} ({where})")
    return value
