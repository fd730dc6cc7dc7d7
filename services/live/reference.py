"""The section "Live keys" of docs/control.md, made from the list itself.

`python -m services.live.reference` writes it between its two marks; a test compares.
"""

import sys
from pathlib import Path

from services.live.meanings import meaning_of
from services.live.rows import MAX_COUNT, ROWS, LiveRow, ValueKind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "control.md"
BEGIN, END = "<!-- live keys: begin -->", "<!-- live keys: end -->"

HEAD = """\
Made by `python -m services.live.reference`; a test compares. These keys of a recipe can change while a run goes on, and
no other. `GET /v1/capabilities` and `PATCH /v1/runs/{id}/config` go by the same list; a run has those of the components
that it was begun with.

| key | value | applies | meaning |
|---|---|---|---|
"""


def table() -> str:
    """Head and one row per key."""
    return HEAD + "".join(
        f"| `{row.key}` | {_values(row)} | {row.applies.value} | {meaning_of(row)} |\n" for row in ROWS
    )


def with_table(page: str) -> str:
    """A page with what stands between its marks made anew.

    Raises:
        ValueError: a mark is missing.
    """
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page must hold {BEGIN} and {END} ({PAGE})")
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def _values(row: LiveRow) -> str:
    if row.kind is ValueKind.CHOICE:
        return " or ".join(f"`{each}`" for each in row.choices)
    name = "whole number" if row.kind is ValueKind.INTEGER else "number"
    lower = _limit(">=", row.range.minimum) or _limit(">", row.range.above)
    upper = _limit("<=", row.range.maximum) or _limit("<", row.range.below)
    return ", ".join(each for each in (name, lower, upper) if each)


def _limit(sign: str, value: float | None) -> str:
    return "" if value is None or value == MAX_COUNT else f"{sign} {int(value) if value == int(value) else value}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
