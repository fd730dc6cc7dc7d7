"""Numbers by step and name: one column of float64 per name, NaN where a step has none.

A run of 100,000 steps with 100 numbers each takes some 85 MB.
"""

import math
from array import array
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

MAX_NAMES = 1000


class Columns:
    """Grows row by row. Steps may come twice, or out of order: the last row of a step counts."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._steps = array("q")
        self._columns: dict[str, array[float]] = {}

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Append a row; names beyond MAX_NAMES are left out."""
        # First, as it alone can fail: columns have equal lengths.
        self._steps.append(step)
        for name in values:
            if name not in self._columns and len(self._columns) < MAX_NAMES:
                self._columns[name] = array("d", [math.nan]) * (len(self._steps) - 1)
        for name, column in self._columns.items():
            found = values.get(name)
            column.append(math.nan if found is None else found)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def __len__(self) -> int:
        return len(self._steps)

    def steps(self) -> Longs:
        """[N] int64, as they came."""
        return np.array(self._steps, np.int64)

    def values(self, name: str) -> Floats:
        """[N] float64; NaN everywhere for an unknown name."""
        column = self._columns.get(name)
        return np.full(len(self), np.nan) if column is None else np.array(column, np.float64)


def join(tables: Iterable[Columns], names: Iterable[str]) -> tuple[Longs, dict[str, Floats]]:
    """One table of the steps of several, in order, each step once.

    Returns:
        [S] int64 steps that have a finite value of some name, and [S] float64 values by name.
    """
    tables, names = tuple(tables), tuple(names)
    steps = np.unique(np.concatenate([np.zeros(0, np.int64), *(each.steps() for each in tables)]))
    joined = {name: np.full(len(steps), np.nan) for name in names}
    for table in tables:
        rows = np.searchsorted(steps, table.steps())
        for name in set(names) & set(table.names):
            joined[name][rows] = table.values(name)
    having = np.zeros(len(steps), np.bool_)
    for column in joined.values():
        having |= np.isfinite(column)
    return steps[having], {name: column[having] for name, column in joined.items()}
