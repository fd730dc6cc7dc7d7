"""What loggers wrote, read back: by TensorBoard's own reader, and W&B's offline files record by record."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_HEADER_BYTES = 7
_BLOCK_BYTES = 32768
_FULL, _LAST = 1, 4


def wandb_records(path: Path) -> Iterator[bytes]:
    """Records of an offline file: LevelDB's log format behind a header of 7 bytes."""
    data, position, parts = path.read_bytes(), _HEADER_BYTES, b""
    while len(data) - position >= _HEADER_BYTES:
        rest = _BLOCK_BYTES - position % _BLOCK_BYTES
        if rest < _HEADER_BYTES:
            position += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += _HEADER_BYTES
        parts += data[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, as TensorBoard would show them."""
    found: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
