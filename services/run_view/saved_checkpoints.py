"""The checkpoints of a run as a reader sees them: whole ones and damaged ones, pinned, tagged, removed.

Whole means by manifest and sizes: contents are read by whoever goes on from one.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from services.checkpoints.checkpoint import PINNED_FILE, TAG_FILE, Checkpoint, moment_of
from services.checkpoints.manifest import MANIFEST_FILE
from services.checkpoints.store import CheckpointStore, Damaged
from services.run_dir import CHECKPOINTS_DIR
from services.run_view.confined import ConfinedFolder
from services.run_view.refusals import InUse, NotFound
from shaping.errors import CheckpointError, UserError

MAX_TAG_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """One checkpoint. What a damaged one does not say is None.

    Args:
        num_bytes: of its files, the manifest left out.
        sha256_manifest: hex digest of manifest.json, which holds the digests of all other files.
        problem: why one cannot go on from it; "" where one can.
        created_at: seconds since the epoch.
        tag: a word that somebody gave it; "" without.
    """

    name: str
    step: int | None
    policy_version: int | None
    num_bytes: int | None
    sha256_manifest: str | None
    is_pinned: bool
    created_at: float | None
    tag: str
    problem: str

    @property
    def is_complete(self) -> bool:
        return not self.problem


class SavedCheckpoints:
    """Reads at any time; pins and removes beside the process of the run, as that one allows for it."""

    def __init__(self, folder: ConfinedFolder) -> None:
        self._folder = folder

    def list(self) -> tuple[SavedCheckpoint, ...]:
        """Newest first; damaged ones in their places."""
        store = self._store()
        if store is None:
            return ()
        found: dict[str, Checkpoint | Damaged] = {each.name: each for each in store.list()}
        found |= {each.name: each for each in store.damaged()}
        newest_first = sorted(found.values(), key=lambda each: moment_of(each.name), reverse=True)
        return tuple(map(self._described, newest_first))

    def get(self, name: str) -> SavedCheckpoint:
        """Raises:
        NotFound: there is none of this name.
        """
        there = self.list()
        for each in there:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in there[:5]) or "none"
        raise NotFound("checkpoint", f"a checkpoint must be one of those there are, found no {name[:80]!r} but {known}")

    def pin(self, name: str, *, is_pinned: bool) -> SavedCheckpoint:
        """Keep it until it is unpinned, or let the run's own limit decide again.

        Raises:
            NotFound: there is none of this name.
            UserError: it cannot be marked.
        """
        self.get(name)
        store = CheckpointStore(self._folder.check_folder(CHECKPOINTS_DIR, name).parent)
        try:
            store.pin(name) if is_pinned else store.unpin(name)
        except CheckpointError as error:
            raise UserError(str(error)) from error
        return self.get(name)

    def delete(self, name: str, *, in_use: Collection[str] = ()) -> None:
        """Remove one for good.

        Args:
            in_use: names that somebody works with.
        Raises:
            NotFound: there is none of this name.
            InUse: it is the newest whole one, pinned, or in use.
            UserError: it cannot be removed.
        """
        asked = self.get(name)
        latest = next((each.name for each in self.list() if each.is_complete), None)
        reasons = {
            "the newest that is whole, which the run goes on from": name == latest,
            "pinned; unpin it first": asked.is_pinned,
            "in use": name in in_use,
        }
        if found := next((reason for reason, holds in reasons.items() if holds), None):
            raise InUse(f"a checkpoint that is removed must not be needed, {name} is {found}")
        store = CheckpointStore(self._folder.check_folder(CHECKPOINTS_DIR, name).parent)
        try:
            is_gone = store.remove(name)
        except CheckpointError as error:
            raise NotFound("checkpoint", str(error)) from error
        if not is_gone:
            raise UserError(f"a checkpoint must be removable, {name} could not be removed; see the log of this service")

    def _store(self) -> CheckpointStore | None:
        try:
            return CheckpointStore(self._folder.check_folder(CHECKPOINTS_DIR))
        except FileNotFoundError:
            return None

    def _described(self, found: Checkpoint | Damaged) -> SavedCheckpoint:
        name = found.name
        try:
            entries = self._folder.names(CHECKPOINTS_DIR, name)
            tag = self._read(name, TAG_FILE)[:MAX_TAG_BYTES].decode("utf-8", "replace").strip()
            digest = hashlib.sha256(self._read(name, MANIFEST_FILE)).hexdigest()
        except UserError as error:
            # A link, mostly: what it leads to is not the run's.
            return _damaged(Damaged(name=name, reason=str(error)), is_pinned=False, tag="")
        is_pinned = PINNED_FILE in entries
        if isinstance(found, Damaged):
            return _damaged(found, is_pinned=is_pinned, tag=tag)
        manifest = found.manifest
        return SavedCheckpoint(
            name=name,
            step=manifest.step,
            policy_version=manifest.policy_version,
            num_bytes=manifest.num_bytes,
            sha256_manifest=digest,
            is_pinned=is_pinned,
            created_at=datetime.fromisoformat(manifest.created_at).timestamp(),
            tag=tag,
            problem="",
        )

    def _read(self, name: str, file: str) -> bytes:
        """Content of a small file of a checkpoint; empty without one."""
        try:
            with self._folder.open(CHECKPOINTS_DIR, name, file) as opened:
                return opened.read()
        except FileNotFoundError:
            return b""


def _damaged(found: Damaged, *, is_pinned: bool, tag: str) -> SavedCheckpoint:
    return SavedCheckpoint(
        name=found.name,
        step=None,
        policy_version=None,
        num_bytes=None,
        sha256_manifest=None,
        is_pinned=is_pinned,
        created_at=None,
        tag=tag,
        problem=found.reason,
    )
