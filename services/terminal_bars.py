"""Curves and shares in one line of a terminal, each with a mark of its own, so that none is told by colour alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from services.explain.marks import MARKS
from shaping.explain import TokenClass
from shaping.support import SegmentClass

CLASS_MARKS = {SegmentClass(each): MARKS[each] for each in MARKS if each not in (TokenClass.STRAY, TokenClass.HIGH)}

_SPARKS = "".join(chr(0x2581 + height) for height in range(8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a bar: its share of the whole, and the sign that fills its cells."""

    share: float
    sign: str
    color: str


def spark(values: Sequence[float], *, width: int, is_ascii: bool) -> str:
    """The course of a curve in block characters, at most `width` of them, first and last value included.

    Nothing where the terminal has no such characters, or where there is no course yet.
    """
    if is_ascii or len(values) < 2 or width < 2:
        return ""
    chosen = _thinned(values, width)
    low, span = min(chosen), max(chosen) - min(chosen)
    return "".join(_SPARKS[round((value - low) / span * 7)] if span > 0 else _SPARKS[0] for value in chosen)


def chart(values: Sequence[float], *, width: int, rows: int, is_ascii: bool) -> list[str]:
    """The same curve over all of `width` and `rows` lines high, the topmost first; its lowest value still shows."""
    if is_ascii or len(values) < 2 or width < 2:
        return [""] * rows
    chosen = _thinned(values, width) if len(values) > width else _stretched(values, width)
    low, span = min(chosen), max(chosen) - min(chosen)
    top = 8 * rows - 1
    heights = [1 + (round((value - low) / span * top) if span > 0 else 0) for value in chosen]
    return ["".join(_block(height - 8 * row) for height in heights) for row in reversed(range(rows))]


def _block(eighths: int) -> str:
    return " " if eighths <= 0 else _SPARKS[min(eighths, 8) - 1]


def _thinned(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    return [values[round(at * (len(values) - 1) / (width - 1))] for at in range(width)]


def _stretched(values: Sequence[float], width: int) -> list[float]:
    return [values[at * len(values) // width] for at in range(width)]


def stacked_bar(parts: Sequence[Part], *, width: int) -> Text:
    """Parts side by side; shares that add up to 1 fill exactly `width` cells."""
    bar, edge, cells = Text(), 0.0, 0
    for part in parts:
        edge += part.share
        wide = round(edge * width) - cells
        cells += wide
        bar.append(part.sign * wide, style=part.color)
    return bar


def class_bar(shares: Mapping[SegmentClass, float], *, width: int, is_ascii: bool) -> tuple[Text, list[Text]]:
    """The bar of the classes, and the entries of its key with their shares."""
    parts, key = [], []
    for each, mark in CLASS_MARKS.items():
        sign = mark.on(is_ascii=is_ascii)
        parts.append(Part(share=shares[each], sign=sign, color=mark.color))
        key.append(Text.assemble((sign, mark.color), f" {mark.name} {shares[each]:.0%}"))
    return stacked_bar(parts, width=width), key


def wrapped(entries: Sequence[Text], width: int) -> list[Text]:
    """Entries two spaces apart, in lines that cut none of them."""
    lines: list[Text] = [Text()]
    for entry in entries:
        if lines[-1].plain and cell_len(lines[-1].plain) + 2 + cell_len(entry.plain) > width:
            lines.append(Text())
        lines[-1].append_text(Text("  ") if lines[-1].plain else Text()).append_text(entry)
    return lines
