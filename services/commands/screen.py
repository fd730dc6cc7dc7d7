"""Where commands print: tables and words for a person, JSON for a program, remarks beside both."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from services.explain.marks import visible

ABSENT = "-"
COLUMN_GAP = "  "
LABEL_CELLS = 15


@contextmanager
def without_color() -> Iterator[None]:
    """NO_COLOR for every console that is made inside, those of child processes too."""
    before = os.environ.get("NO_COLOR")
    os.environ["NO_COLOR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("NO_COLOR")
        if before is not None:
            os.environ["NO_COLOR"] = before


def print_json(data: Any) -> None:
    """One JSON value, for people's eyes too."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_json_line(data: Any) -> None:
    """One JSON value in one line, seen at once by whoever reads the stream."""
    typer.echo(json.dumps(data, ensure_ascii=False))
    sys.stdout.flush()


def remark(text: str) -> None:
    """A line for the person at the terminal, beside what is printed; nobody is told where nobody looks."""
    if sys.stderr.isatty():
        typer.echo(safe(text), err=True)


def safe(text: object) -> str:
    """Text in which nothing steers a terminal; what does not exist is a dash."""
    return ABSENT if text is None or text == "" else visible(str(text), is_ascii=False)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Rows under headings, each in one line: cut at the edge of a terminal, whole where there is none.

    Args:
        empty: what is said where there are no rows.
    """
    console = Console()
    cells = [[each if isinstance(each, Text) else Text(safe(each)) for each in row] for row in rows]
    if not cells:
        console.print(Text(empty), soft_wrap=True)
        return
    head = [Text(each, style="bold") for each in headings]
    widths = [max(cell_len(row[at].plain) for row in (head, *cells)) for at in range(len(head))]
    for row in (head, *cells):
        line = Text(COLUMN_GAP).join(_padded(each, width) for each, width in zip(row, widths, strict=True))
        line.rstrip()
        if console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def _padded(cell: Text, width: int) -> Text:
    return Text.assemble(cell, " " * (width - cell_len(cell.plain)))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair in a line."""
    console = Console()
    for name, value in facts:
        shown = value if isinstance(value, Text) else Text(safe(value))
        console.print(Text(f"{name:<{LABEL_CELLS}}", style="bright_black").append_text(shown), soft_wrap=True)
