"""A checkpoint that is being written: a directory aside, which becomes the checkpoint in one rename."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from services.checkpoints.checkpoint import PINNED_FILE, TAG_FILE, Checkpoint
from services.checkpoints.manifest import MANIFEST_FILE, Manifest, manifest_bytes
from services.durable_files import sync, write_synced
from shaping.errors import CheckpointError
from shaping.stored_files import StoredFile, check_stored_size


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What a manifest says of the run at the moment that a checkpoint is of.

    Args:
        metrics: values of the step; those that are not finite are left out.
        logs: bytes of each append-only file of the run's directory, see `RunFiles.lengths`.
    """

    policy_version: int
    run_id: str
    recipe_hash: str
    metrics: dict[str, float]
    logs: dict[str, int]


class CheckpointDraft:
    """Made by `CheckpointStore.begin`. Learner ranks and shaping workers write below `path` by themselves.

    Whatever fails, the draft is removed as far as it can be, and the checkpoints before it stay as they are.
    """

    def __init__(self, path: Path, target: Path, *, step: int, clock: Callable[[], float]) -> None:
        self.path = path
        self._target = target
        self._step = step
        self._clock = clock
        self._own: list[StoredFile] = []

    def write_json(self, name: str, value: object) -> None:
        """Write one file of JSON.

        Raises:
            CheckpointError: it could not be written; the draft is gone.
        """
        data = json.dumps(value, separators=(",", ":")).encode()
        with self._or_gone(), _writing(self.path / name):
            write_synced(self.path / name, data)
        self._own.append(StoredFile(path=name, num_bytes=len(data), sha256=sha256(data).hexdigest()))

    def commit(self, *, files: tuple[StoredFile, ...], facts: CheckpointFacts) -> Checkpoint:
        """Make it a checkpoint: after this it is whole under its name, and on the disk.

        Args:
            files: those that others wrote and hashed, with paths relative to the draft.
        Raises:
            CheckpointError: a file is missing, has another size or is not listed, or the disk is full; the draft is
                gone.
        """
        with self._or_gone():
            listed = tuple(sorted((*self._own, *files), key=lambda each: each.path))
            self._check(listed)
            manifest = Manifest(
                name=self._target.name,
                step=self._step,
                policy_version=facts.policy_version,
                run_id=facts.run_id,
                recipe_hash=facts.recipe_hash,
                created_at=datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds"),
                lessrl_version=version("lessrl"),
                metrics={name: float(each) for name, each in facts.metrics.items() if math.isfinite(each)},
                logs=dict(facts.logs),
                files=listed,
            )
            # The data first, then the manifest that vouches for them, then the name that makes them visible.
            for each in listed:
                with _writing(self.path / each.path):
                    sync(self.path / each.path)
            with _writing(self.path / MANIFEST_FILE):
                write_synced(self.path / MANIFEST_FILE, manifest_bytes(manifest))
            with _writing(self._target):
                for folder in (*(each for each in self.path.rglob("*") if each.is_dir()), self.path):
                    sync(folder)
                self.path.rename(self._target)
                sync(self._target.parent)
        return Checkpoint(path=self._target, manifest=manifest)

    def abandon(self) -> None:
        """Remove it, as far as it can be; a checkpoint that was committed stays."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _check(self, listed: tuple[StoredFile, ...]) -> None:
        paths = [each.path for each in listed]
        reserved = {MANIFEST_FILE, PINNED_FILE, TAG_FILE} & set(paths)
        if reserved or len(set(paths)) < len(paths):
            raise CheckpointError(f"files of a checkpoint must have names of their own, found {paths} ({self.path})")
        for each in listed:
            check_stored_size(self.path, each)
        found = {each.relative_to(self.path).as_posix() for each in self.path.rglob("*") if not each.is_dir()}
        if unlisted := sorted(found - set(paths)):
            raise CheckpointError(
                f"every file of a checkpoint must be listed with its hash, {', '.join(unlisted)} is not ({self.path})"
            )

    @contextmanager
    def _or_gone(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            self.abandon()
            raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"a checkpoint must be written whole, {path.name} could not be: {error.strerror} ({path}); earlier "
            "checkpoints are as they were"
        ) from error
