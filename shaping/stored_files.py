"""Files of a checkpoint as its manifest lists them: path, size and hash."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shaping.checks import require
from shaping.errors import CheckpointError

_DIGEST = re.compile(r"[0-9a-f]{64}")


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

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        # A manifest may come from elsewhere: what it lists must not lead out of its directory.
        is_inside = bool(parts) and parts[0] != "/" and ".." not in parts and "/".join(parts) == self.path
        require(is_inside, f"path must lie inside the checkpoint, got {self.path!r}", "StoredFile")
        require(self.num_bytes >= 0, f"num_bytes must be >= 0, got {self.num_bytes}", self.path)
        require(bool(_DIGEST.fullmatch(self.sha256)), f"sha256 must be 64 hex digits, got {self.sha256!r}", self.path)


def stored_file(root: Path, path: str) -> StoredFile:
    """Describe a file as it is on disk now.

    Raises:
        OSError: it cannot be read.
    """
    with (root / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(path=path, num_bytes=file.tell(), sha256=digest)


def check_stored_file(root: Path, expected: StoredFile) -> None:
    """Compare a file on disk with what was written, byte by byte.

    Raises:
        CheckpointError: missing, unreadable, of another size, or with other content.
    """
    check_stored_size(root, expected)
    try:
        found = stored_file(root, expected.path).sha256
    except OSError as error:
        raise CheckpointError(f"{expected.path} must be readable, found {error.strerror} ({root})") from error
    if found != expected.sha256:
        raise CheckpointError(
            f"{expected.path} must have the content that was saved (sha256 {expected.sha256[:12]}...), "
            f"found {found[:12]}... ({root})"
        )


def check_stored_size(root: Path, expected: StoredFile) -> None:
    """Compare without reading: presence and size.

    Raises:
        CheckpointError: missing, or of another size.
    """
    try:
        found = (root / expected.path).stat().st_size
    except OSError as error:
        raise CheckpointError(
            f"a checkpoint must hold all its files, {expected.path} is missing: {error.strerror} ({root})"
        ) from error
    if found != expected.num_bytes:
        raise CheckpointError(f"{expected.path} must have {expected.num_bytes} bytes, found {found} ({root})")
