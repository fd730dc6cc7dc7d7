"""What W&B's offline files of a run hold: up to which step its points reached the disk, as a killed process left them.

W&B writes through a process of its own, which may lose the last points when everything is killed.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from shaping.components import import_module_of

OFFLINE_FILES = "offline-run-*/*.wandb"
_FILE_HEADER_BYTES = 7
_BLOCK_BYTES = 32768
_RECORD_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def highest_values(folder: Path, names: tuple[str, ...]) -> dict[str, float]:
    """The highest value that the rows of all offline files hold under each of these names; absent where none does.

    Args:
        folder: W&B's, in the run's directory.
    """
    proto = import_module_of("wandb.proto", "wandb_internal_pb2")
    found: dict[str, float] = {}
    for path in sorted(folder.glob(OFFLINE_FILES)):
        for data in records(path.read_bytes()):
            record = proto.Record()
            record.ParseFromString(data)
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                if name in names:
                    found[name] = max(found.get(name, -1.0), float(json.loads(item.value_json)))
    return found


def records(data: bytes) -> Iterator[bytes]:
    """Whole records of a file; what a killed process left of one at the end is passed over.

    Source: LevelDB's log format, behind a header of seven bytes that is W&B's own.
    """
    position, parts = _FILE_HEADER_BYTES, b""
    while position < len(data):
        rest = _BLOCK_BYTES - position % _BLOCK_BYTES
        if rest < _RECORD_HEADER.size:
            position += rest
            continue
        if position + _RECORD_HEADER.size > len(data):
            return
        _, length, kind = _RECORD_HEADER.unpack_from(data, position)
        position += _RECORD_HEADER.size
        if position + length > len(data) or not kind:
            return
        parts = data[position : position + length] if kind in (_FULL, _FIRST) else parts + data[position:][:length]
        position += length
        if kind in (_FULL, _LAST):
            yield parts
