"""What a live key means, for a person: a component's option says it in the list, any other key in its config class."""

import dataclasses
import inspect
import typing
from functools import cache
from typing import Any

from services.live.rows import LiveRow
from services.recipe import Recipe
from services.recipe_reference import read_docstring


@cache
def meaning_of(row: LiveRow) -> str:
    """One or two sentences, never empty."""
    text = row.meaning or _documented(row.key)
    return text[:1].upper() + text[1:]


def _documented(key: str) -> str:
    """What the docstring of the config class says of a key."""
    *parents, name = key.split(".")
    owner: Any = Recipe
    for parent in parents:
        hint = typing.get_type_hints(owner)[parent]
        owner = next(each for each in (*typing.get_args(hint), hint) if dataclasses.is_dataclass(each))
    _, meanings = read_docstring(inspect.getdoc(owner) or "")
    return meanings[name]
