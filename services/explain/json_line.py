"""One line of a JSON Lines file and the checks of its fields; each failure is a DataError that names file and line."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from shaping.checks import FloatArray
from shaping.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLine:
    """Where we are, for messages.

    Args:
        where: file and line.
        place: path of the object under work inside the line; "" for the line itself.
        page: where the format is told.
    """

    where: str
    page: str
    place: str = ""

    def inside(self, place: str) -> "JsonLine":
        return replace(self, place=f"{self.place}.{place}".strip("."))

    def fail(self, rule: str, name: str = "") -> NoReturn:
        place = f"{self.place}.{name}".strip(".")
        raise DataError(f"{rule} ({self.where}{', ' + place if place else ''})")

    def parse(self, raw: bytes) -> dict[str, Any]:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            self.fail(f"a line must be one JSON object, found bad JSON: {' '.join(str(error).split())}")
        if not isinstance(value, dict):
            self.fail(f"a line must be one JSON object, found {kind_of(value)}")
        return value

    def check_fields(self, value: Mapping[str, Any], known: tuple[str, ...]) -> None:
        """Refuse a field that nothing reads: a misspelt one would otherwise be missed."""
        for name in value:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
                self.fail(f"unknown field {name!r}; {hint}")

    def get(self, value: Mapping[str, Any], name: str) -> Any:
        """A field that must be there; null counts as missing."""
        if value.get(name) is None:
            self.fail(f"{name} must be given, found none; {self.page} says how")
        return value[name]

    def text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            self.fail(f"must be text, found {kind_of(value)}", name)
        return printable_text(value)

    def whole(self, value: object, name: str, *, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fail(f"must be a whole number >= {least}, found {shown(value)}", name)
        return value

    def items(self, value: object, name: str, kinds: set[type], what: str) -> list[Any]:
        """A list of nothing but these types."""
        if not isinstance(value, list):
            self.fail(f"must be a list of {what}, found {kind_of(value)}", name)
        if not {type(each) for each in value} <= kinds:
            index, bad = next((i, each) for i, each in enumerate(value) if type(each) not in kinds)
            self.fail(f"must be a list of {what}, found {shown(bad)} at index {index}", name)
        return value

    def floats(self, value: object, name: str, num_tokens: int) -> FloatArray:
        """A list with one finite number per token, as float32."""
        values = self.items(value, name, {int, float}, "numbers")
        if len(values) != num_tokens:
            self.fail(f"must have one entry per token, found {len(values)} for {num_tokens} tokens", name)
        try:
            array = np.asarray(values, np.float64)
        except OverflowError:
            self.fail("must be finite numbers, found one of hundreds of digits", name)
        bad = np.flatnonzero(~(np.abs(array) <= np.finfo(np.float32).max))
        if len(bad):
            self.fail(f"must be finite numbers, found {array[bad[0]]} at index {bad[0]}", name)
        return array.astype(np.float32)


def printable_text(text: str) -> str:
    """Text that can be written out: a lone surrogate, which JSON can hold, is no character."""
    return text.encode("utf-8", "replace").decode()


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: object) -> str:
    """The start of a JSON value."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
