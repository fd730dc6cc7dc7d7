"""Which keys a recipe has, read off its config classes."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel


def field_types(owner: Any) -> dict[str, Any]:
    """Names and types of a dataclass or of the recipe itself."""
    hints = typing.get_type_hints(owner)
    names = owner.model_fields if issubclass(owner, BaseModel) else [f.name for f in dataclasses.fields(owner)]
    return {name: hints[name] for name in names}


def members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def section_of(hint: Any) -> Any:
    """The config class that a key holds, or None."""
    return next((each for each in members(hint) if dataclasses.is_dataclass(each)), None)


def known_keys(owner: Any, keys: Sequence[str]) -> list[str]:
    """The keys of the section at `keys`, sorted; none where no section is."""
    for key in keys:
        owner = section_of(field_types(owner).get(key))
        if owner is None:
            return []
    return sorted(field_types(owner))


def unknown_key(owner: Any, keys: Sequence[str], where: str) -> str:
    """What to say of a key that `owner` has not, with the closest one that it has."""
    known = known_keys(owner, keys[:-1])
    close = difflib.get_close_matches(keys[-1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"unknown key {keys[-1]!r}; {hint} ({'.'.join(keys)} in {where})"
