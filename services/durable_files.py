"""Writing that outlives a crash: when these return, the data are on the disk."""

import os
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait for the disk.

    Raises:
        OSError: it could not be written whole; part of it may be there.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until the disk holds a file's content, whoever wrote it, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file so that a reader, or a crash, finds the old or the new one, never half."""
    aside = path.with_name(f".{path.name}.part")
    write_synced(aside, data)
    aside.replace(path)
    sync(path.parent)
