"""A checkpoint that is on disk, and how it proves itself."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.checkpoints.manifest import MANIFEST_FILE, Manifest, parse_manifest
from shaping.errors import CheckpointError
from shaping.stored_files import check_stored_file, check_stored_size

PINNED_FILE = "pinned"
"""Marks a checkpoint that is kept; not in the manifest, which never changes."""

TAG_FILE = "tag"
"""A user's words for it; not in the manifest either."""

MAX_READERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A directory whose manifest is intact and whose files are there with their sizes."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def is_pinned(self) -> bool:
        return (self.path / PINNED_FILE).exists()

    @property
    def tag(self) -> str:
        """A user's words for it; "" for none."""
        try:
            return (self.path / TAG_FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    @property
    def moment(self) -> tuple[int, int]:
        """By which checkpoints of a run are ordered: steps finished, and which of several moments before the next."""
        return moment_of(self.name)

    def verify(self) -> None:
        """Read every file and compare its hash; as many threads as cores, up to 8.

        Raises:
            CheckpointError: the first file, in the manifest's order, that differs.
        """
        with ThreadPoolExecutor(min(MAX_READERS, os.cpu_count() or 1)) as readers:
            for _ in readers.map(partial(check_stored_file, self.path), self.manifest.files):
                pass

    def read_json(self, file: str) -> Any:
        """What `CheckpointDraft.write_json` wrote.

        Raises:
            CheckpointError: the checkpoint has no such file, or it is not JSON.
        """
        try:
            return json.loads((self.path / file).read_bytes())
        except OSError as error:
            raise CheckpointError(f"{file} must be readable, found {error.strerror} ({self.path})") from error
        except ValueError as error:
            raise CheckpointError(f"{file} must be JSON: {error} ({self.path})") from error


def moment_of(name: str) -> tuple[int, int]:
    """The moment of a checkpoint by its name: (10, 2) of step-000010.2.

    Raises:
        ValueError: not such a name.
    """
    step, _, revision = name.removeprefix("step-").partition(".")
    return int(step), int(revision or 0)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a manifest and compare sizes; contents are `Checkpoint.verify`'s.

    Raises:
        CheckpointError: partial, damaged, or of another format.
    """
    where = path / MANIFEST_FILE
    try:
        data = where.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"a checkpoint must hold {MANIFEST_FILE}, which is written last: {error.strerror} ({where})"
        ) from error
    manifest = parse_manifest(data, str(where))
    if manifest.name != path.name:
        raise CheckpointError(f"a checkpoint must keep its name, {manifest.name} is named {path.name} ({path})")
    for each in manifest.files:
        check_stored_size(path, each)
    return Checkpoint(path=path, manifest=manifest)
