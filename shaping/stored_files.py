"""Files of a checkpoint as its manifest lists them: path, size and hash."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shaping.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file.

    Args:
        path: relative to the checkpoint's directory, with forward slashes.
        sha256: hex digest of its content.
    """

    path: str
    num_bytes: int
    sha256: str


def stored_file(root: Path, path: str) -> StoredFile:
    """Describe a file as it is on disk now."""
    with (root / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(path=path, num_bytes=file.tell(), sha256=digest)


def check_stored_file(root: Path, expected: StoredFile) -> None:
    """Compare a file on disk with what was written.

    Raises:
        CheckpointError: missing, of another size, or with other content.
    """
    target = root / expected.path
    if not target.is_file():
        raise CheckpointError(f"a checkpoint must hold all its files, {expected.path} is missing ({root})")
    found = target.stat().st_size
    if found != expected.num_bytes:
        raise CheckpointError(f"{expected.path} must have {expected.num_bytes} bytes, found {found} ({root})")
    if stored_file(root, expected.path).sha256 != expected.sha256:
        raise CheckpointError(f"{expected.path} must have the content that was saved, found another hash ({root})")
