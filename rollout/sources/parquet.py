"""Prompts from a parquet file, verl's layout included: `prompt` as chat turns, `reward_model.ground_truth`.

Only the columns that can hold a prompt, an answer, steps or an id are read.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet

from rollout.row_fields import Row, Table
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
        DataError: no such file, one that is not parquet, an empty one, or as in rollout.rows.load_prompts.
    """
    path = Path(config.path)
    if not path.is_file():
        raise DataError(f"a data file must exist, found none at {path}; set `path` to a parquet file")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = _field_names(file.schema_arrow)
            columns = [name for name in file.schema_arrow.names if name in config.top_level_fields]
            batches = (batch.to_pylist() for batch in file.iter_batches(columns=columns))
            read = list(islice((fields for batch in batches for fields in batch), config.limit))
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"a data file must be readable parquet, found: {reason} ({path})") from error
    rows = [Row(number=number, fields=fields) for number, fields in enumerate(read, start=1)]
    return load_prompts(Table(name=path.stem, where=str(path), unit="row", field_names=names, rows=rows), config)


def _field_names(schema: pyarrow.Schema) -> tuple[str, ...]:
    """Every column, those of structs one level down."""
    names: list[str] = []
    for field in schema:
        is_struct = pyarrow.types.is_struct(field.type)
        names += [f"{field.name}.{inner.name}" for inner in field.type.fields] if is_struct else [field.name]
    return tuple(names)
