"""The one form of every benchmark: a table for a person, or one JSON document with plain numbers under `figures`."""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

Cell = str | int | float
Row = dict[str, Cell]

_LIBRARIES = ("numpy", "numba", "torch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a benchmark found.

    Args:
        benchmark: its module name.
        core: the core it was pinned to; None where it could not be.
        figures: finite numbers; the unit ends the name (`_seconds`, `_ms`, `_mb`), `_over_` is a ratio.
        rows: tables by name; all rows of a table have the same columns.
    """

    benchmark: str
    core: int | None
    figures: dict[str, float]
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.figures.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"a figure must be a finite number, got {value!r} ({self.benchmark}, {name})")
        for name, table in self.rows.items():
            if any(row.keys() != table[0].keys() for row in table):
                raise ValueError(f"the rows of a table must have the same columns ({self.benchmark}, {name})")


def make_parser(description: str) -> argparse.ArgumentParser:
    """The command line that all benchmarks have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    return parser


def write_report(report: Report, *, as_json: bool) -> None:
    sys.stdout.write((to_json(report) if as_json else to_text(report)) + "\n")


def to_json(report: Report) -> str:
    return json.dumps({**asdict(report), "machine": describe_machine()}, indent=2, allow_nan=False)


def to_text(report: Report) -> str:
    machine = describe_machine()
    pinned = "not pinned" if report.core is None else f"core {report.core}"
    lines = [f"{report.benchmark}: {pinned} of {machine.pop('num_cores')}, " + ", ".join(map(str, machine.values()))]
    lines += ["", *_align([[name, _show(value)] for name, value in report.figures.items()])]
    for name, table in report.rows.items():
        cells = [list(table[0])] + [[_show(cell) for cell in row.values()] for row in table] if table else []
        lines += ["", name, *_align(cells)]
    return "\n".join(lines)


def describe_machine() -> Row:
    """Processor, number of cores, and the versions that decide speed."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "num_cores": os.cpu_count() or 1,
        "python": f"Python {platform.python_version()}",
        **{name: f"{name} {version(name)}" for name in _LIBRARIES if find_spec(name)},
    }


def _show(value: Cell) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _align(cells: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            ["  " + row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in cells
    ]
