"""Prompts from a JSONL file: one JSON object a line, UTF-8; blank lines are passed over."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rollout.row_fields import Row, Table, name_fields
from rollout.rows import LoadedPrompts, RowOptions, load_prompts
from shaping.errors import DataError
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RowOptions):
    """The options of any data set of rows, and the file.

    Args:
        path: the file, absolute.
    """

    path: str


def supplies_steps(config: Config) -> bool:
    """Whether its prompts have solution steps: known before the data is read."""
    return bool(config.steps_field)


def build(config: Config) -> LoadedPrompts:
    """Read the file.

    Raises:
        DataError: no such file, an empty one, a line that is no JSON object, or as in rollout.rows.load_prompts.
    """
    path = Path(config.path)
    if not path.is_file():
        raise DataError(f"a data file must exist, found none at {path}; set `path` to a JSONL file")
    wanted = config.top_level_fields
    names: dict[str, None] = {}
    rows: list[Row] = []
    for number, line in islice(_lines(path), config.limit):
        try:
            fields = _parse(line)
        except DataError as error:
            rows.append(Row(number=number, fields={}, fault=str(error)))
            continue
        names.update(dict.fromkeys(name_fields(fields)))
        kept = {name: value for name, value in fields.items() if name in wanted}
        rows.append(Row(number=number, fields=kept))
    table = Table(name=path.stem, where=str(path), unit="line", field_names=tuple(names), rows=rows)
    return load_prompts(table, config)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"a data file must be readable, found: {error.strerror} ({path})") from error


def _parse(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"a line must be UTF-8, found {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"a line must be a JSON object, found: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:
        # Legal JSON that Python will not hold: a number of thousands of digits, brackets nested too deep.
        raise DataError(f"a line must be a JSON object of usual size, found: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"a line must be a JSON object, found a {type(value).__name__}")
    return value
