"""The manifest of a checkpoint: what it holds, of which moment, and a hash of all that.

`manifest.json` is JSON in one fixed spelling, with the SHA-256 of itself (without that key) inside. A reader takes it
only when both agree, so that a changed byte anywhere is found. It is written last: with it, a checkpoint is whole.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from shaping.checks import require
from shaping.errors import CheckpointError, RecordError
from shaping.stored_files import StoredFile

FORMAT = 1
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint says of itself.

    Args:
        name: of its directory.
        step: learner steps finished.
        policy_version: that every engine served.
        recipe_hash: of the recipe that the run had then.
        created_at: UTC, ISO 8601.
        lessrl_version: that wrote it.
        metrics: finite values of the step, by catalogue name: what "best" is judged by.
        logs: bytes that each append-only file of the run's directory had.
        files: all others of the checkpoint.
    """

    name: str
    step: int
    policy_version: int
    run_id: str
    recipe_hash: str
    created_at: str
    lessrl_version: str
    metrics: dict[str, float]
    logs: dict[str, int]
    files: tuple[StoredFile, ...]

    def __post_init__(self) -> None:
        require(self.step >= 0, f"step must be >= 0, got {self.step}", self.name)
        lengths = list(self.logs.values())
        require(all(each >= 0 for each in lengths), f"lengths must be >= 0, got {self.logs}", self.name)
        paths = [each.path for each in self.files]
        require(len(set(paths)) == len(paths), "a file must be listed once", self.name)

    @property
    def num_bytes(self) -> int:
        return sum(each.num_bytes for each in self.files)


def manifest_bytes(manifest: Manifest) -> bytes:
    """Content of `manifest.json`."""
    content = {"format": FORMAT, **asdict(manifest)}
    return _spelled({**content, "sha256": _digest(content)})


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read what `manifest_bytes` wrote.

    Args:
        where: the file, for messages.
    Raises:
        CheckpointError: a byte was changed, or another format version.
    """
    try:
        content = json.loads(data)
        is_intact = isinstance(content, dict) and _spelled(content) == data
        is_intact = is_intact and content.pop("sha256", None) == _digest(content)
    # ValueError: neither JSON nor UTF-8, or a number that has become infinite.
    except ValueError:
        is_intact = False
    if not is_intact:
        raise CheckpointError(
            f"a manifest must be as it was written, its own hash does not agree: a byte was changed or lost ({where}); "
            "go on from another checkpoint"
        )
    found = content.pop("format", None)
    if found != FORMAT:
        raise CheckpointError(
            f"a manifest must have format {FORMAT}, found {found!r} ({where}); read it with the lessrl that wrote it"
        )
    try:
        files = tuple(StoredFile(**each) for each in content.pop("files"))
        return Manifest(**content, files=files)
    except (TypeError, KeyError, RecordError) as error:
        raise CheckpointError(f"a manifest must have the entries of format {FORMAT}: {error} ({where})") from error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_spelled(content)).hexdigest()


def _spelled(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
