"""What a run writes to its directory to survive: checkpoints, the ledger, the groups of skipped steps.

The orchestrator decides when; arrays go from the actors that hold them to the disk, not through the orchestrator.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from services.checkpoints.store import Checkpoint, CheckpointDraft, CheckpointFacts, CheckpointStore
from services.deadlines import within
from services.ledger import LedgerLine
from services.live.changes import LiveState, with_live_changes
from services.ports import ControlPort, LearnerPort, ShapedHandle
from services.recipe import Recipe
from services.recipe_sections import CheckpointConfig
from services.reports import RunEvent, RunState
from services.run_dir import RunFiles
from services.skipped_step import GROUPS_FILE, SkippedStep, skipped_dir
from services.snapshot import CONFIG_HISTORY, RunSnapshot
from services.workers import Workers
from shaping.errors import CheckpointError
from shaping.stored_files import StoredFile

LEARNER_DIR = "learner"
BUFFERED_FILE = "groups.safetensors"
STATE_FILE = "run_state.json"
SAVED_RECIPE_FILE = "recipe.json"

logger = logging.getLogger(__name__)


class RunStore(Protocol):
    """Where a run's state goes."""

    def attach(self, learner: LearnerPort, control: ControlPort) -> None:
        """Name the learner whose state is saved, and who is told of it; before anything else."""
        ...

    def keep(self, config: CheckpointConfig) -> None:
        """Keep checkpoints by this from the next one on."""
        ...

    def write_ledger(self, line: LedgerLine) -> None:
        """A group has ended."""
        ...

    def begin(self, snapshot: RunSnapshot) -> "PendingCheckpoint":
        """Begin a checkpoint of this moment; nothing else may be reported before it returns."""
        ...

    async def keep_skipped(self, skipped: SkippedStep, groups: tuple[ShapedHandle, ...], workers: Workers) -> str:
        """Keep the groups of a step that could not be trained, if it can be; where they are, for a message."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOutcome:
    """What became of a checkpoint: its name once it is committed, or why there is none. One of them is ""."""

    name: str = ""
    error: str = ""


class PendingCheckpoint(Protocol):
    """A checkpoint whose moment is fixed."""

    async def finish(
        self, groups: tuple[ShapedHandle, ...], metrics: Mapping[str, float], workers: Workers, *, tag: str = ""
    ) -> SaveOutcome:
        """Write the rest; the learner must not train meanwhile. What became of it is said, and the run goes on.

        Args:
            groups: the snapshot's buffered groups, in order.
            metrics: of the step, for the choice of the best.
            tag: a user's words for it.
        """
        ...


class DiskStore:
    """RunStore over a run's directory.

    Args:
        checkpoints: of the run.
        files: the run's files that are appended to; a checkpoint notes their lengths.
        recipe: of the run.
        config_history: the recipes that the run had, one JSON entry each.
    """

    def __init__(
        self,
        checkpoints: CheckpointStore,
        files: RunFiles,
        recipe: Recipe,
        *,
        run_id: str,
        config_history: tuple[dict[str, Any], ...] = (),
    ) -> None:
        self._checkpoints = checkpoints
        self._files = files
        self._recipe = recipe
        self._retention = recipe.run.checkpoint
        self._run_id = run_id
        self._config_history = config_history
        self._learner: LearnerPort
        self._control: ControlPort

    def attach(self, learner: LearnerPort, control: ControlPort) -> None:
        self._learner = learner
        self._control = control

    def keep(self, config: CheckpointConfig) -> None:
        self._retention = config

    def write_ledger(self, line: LedgerLine) -> None:
        self._files.write_ledger([line])

    def begin(self, snapshot: RunSnapshot) -> PendingCheckpoint:
        try:
            return _DiskCheckpoint(self, snapshot, self._files.lengths())
        except CheckpointError as error:
            return _NoCheckpoint(self, snapshot, error)

    async def keep_skipped(self, skipped: SkippedStep, groups: tuple[ShapedHandle, ...], workers: Workers) -> str:
        run_dir = self._files.run_dir
        directory = skipped_dir(run_dir, skipped.step)
        try:
            # A run that went on from an earlier checkpoint comes here again.
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            await workers.save_groups(groups, str(directory / GROUPS_FILE))
            await asyncio.to_thread(skipped.write, directory)
        except (CheckpointError, OSError) as error:
            logger.warning("the groups of step %d are not kept: %s", skipped.step, error)
            return f"no file ({error})"
        return str(directory.relative_to(run_dir))

    async def write(self, snapshot: RunSnapshot, contents: "_Contents") -> SaveOutcome:
        """Write a whole checkpoint, and remove those that need not be kept. A failure is said, and the run goes on."""
        began = time.monotonic()
        try:
            checkpoint = await self._write(snapshot, contents)
            if contents.tag:
                await asyncio.to_thread(self._checkpoints.tag, checkpoint.name, contents.tag)
        except CheckpointError as error:
            return await self.say_failed(snapshot, error)
        removed = await asyncio.to_thread(self._checkpoints.retain, self._retention)
        size, seconds = checkpoint.manifest.num_bytes / 1e6, time.monotonic() - began
        gone = f"; removed {', '.join(removed)}" if removed else ""
        details = {
            "checkpoint": checkpoint.name,
            "step": checkpoint.manifest.step,
            "policy_version": checkpoint.manifest.policy_version,
            "bytes": checkpoint.manifest.num_bytes,
            "seconds": seconds,
            "tag": contents.tag,
        }
        message = f"{checkpoint.name}: {size:.1f} MB in {seconds:.1f} s{gone}"
        await self._say("checkpoint_saved", message, details)
        return SaveOutcome(name=checkpoint.name)

    async def say_failed(self, snapshot: RunSnapshot, error: CheckpointError) -> SaveOutcome:
        """There is no checkpoint of this moment; those before it are as they were."""
        logger.warning("no checkpoint of step %d: %s", snapshot.version, error)
        details = {"step": snapshot.version, "error": str(error)}
        await self._say("checkpoint_failed", f"no checkpoint of step {snapshot.version}: {error}", details)
        return SaveOutcome(error=str(error))

    async def _write(self, snapshot: RunSnapshot, contents: "_Contents") -> Checkpoint:
        draft = await asyncio.to_thread(self._checkpoints.begin, snapshot.version)
        try:
            files = await self._written_by_others(draft, contents)
            history = with_live_changes(self._config_history, self._recipe, LiveState.from_json(snapshot.live))
            state = {**snapshot.as_json(), CONFIG_HISTORY: history}
            await asyncio.to_thread(draft.write_json, STATE_FILE, state)
            await asyncio.to_thread(draft.write_json, SAVED_RECIPE_FILE, self._recipe.as_dict())
        except BaseException:
            await asyncio.to_thread(draft.abandon)
            raise
        facts = CheckpointFacts(
            policy_version=snapshot.version,
            run_id=self._run_id,
            recipe_hash=self._recipe.content_hash,
            metrics=dict(contents.metrics),
            logs=contents.lengths,
        )
        return await asyncio.to_thread(partial(draft.commit, files=files, facts=facts))

    async def _written_by_others(self, draft: CheckpointDraft, contents: "_Contents") -> tuple[StoredFile, ...]:
        """Ranks and a shaping worker write at the same time; both have ended when this returns or fails."""
        saving = within(
            self._recipe.run.deadlines.step_seconds,
            self._learner.save(str(draft.path / LEARNER_DIR)),
            role="learner",
            what=f"saving {draft.path.name}",
            key="run.deadlines.step_seconds",
        )
        groups = contents.workers.save_groups(contents.groups, str(draft.path / BUFFERED_FILE))
        learner_files, groups_file = await asyncio.gather(saving, groups, return_exceptions=True)
        if isinstance(learner_files, BaseException):
            raise learner_files
        if isinstance(groups_file, BaseException):
            raise groups_file
        return (*(replace(each, path=f"{LEARNER_DIR}/{each.path}") for each in learner_files), groups_file)

    async def _say(self, kind: str, message: str, details: Mapping[str, Any]) -> None:
        await self._control.report(RunEvent(kind=kind, message=message, state=RunState.RUNNING, details=details))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What a checkpoint holds beside its snapshot."""

    groups: tuple[ShapedHandle, ...]
    metrics: Mapping[str, float]
    lengths: dict[str, int]
    workers: Workers
    tag: str


class _DiskCheckpoint:
    """Knows how long the run's files were at its moment."""

    def __init__(self, store: DiskStore, snapshot: RunSnapshot, lengths: dict[str, int]) -> None:
        self._store = store
        self._snapshot = snapshot
        self._lengths = lengths

    async def finish(
        self, groups: tuple[ShapedHandle, ...], metrics: Mapping[str, float], workers: Workers, *, tag: str = ""
    ) -> SaveOutcome:
        contents = _Contents(groups=groups, metrics=metrics, lengths=self._lengths, workers=workers, tag=tag)
        return await self._store.write(self._snapshot, contents)


class _NoCheckpoint:
    """Of a moment whose lengths the disk did not take."""

    def __init__(self, store: DiskStore, snapshot: RunSnapshot, error: CheckpointError) -> None:
        self._store = store
        self._snapshot = snapshot
        self._error = error

    async def finish(
        self, groups: tuple[ShapedHandle, ...], metrics: Mapping[str, float], workers: Workers, *, tag: str = ""
    ) -> SaveOutcome:
        del groups, metrics, workers, tag
        return await self._store.say_failed(self._snapshot, self._error)
