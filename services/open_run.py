"""The directory of a run that one process has taken: its files, its history so far, the checkpoint it goes on from."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.checkpoints.checkpoint import Checkpoint
from services.checkpoints.store import CheckpointStore, Found
from services.describe_run import describe_run
from services.evaluation.run_book import RunBook, forget_later_evaluations
from services.history import RunHistory
from services.live.changes import CHANGES_FILE, ChangeFile, LiveState, read_changes, without_live_changes
from services.live.resuming import ResumedRecipe, recipe_on_resume
from services.recipe import Recipe
from services.reports import LiveChange, RunDescription
from services.run_dir import CHECKPOINTS_DIR, RunFiles, read_history, reopen_run_dir
from services.run_setup import PreparedRun
from services.run_store import SAVED_RECIPE_FILE, STATE_FILE, DiskStore
from services.session import Disk
from services.snapshot import CONFIG_HISTORY
from shaping.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run's directory, held by this process.

    Args:
        recipe: that roles are started with; live changes come on top of it.
        found: the checkpoint to go on from; None to begin from nothing.
        config_history: the recipe's changes since the run began, this process's included.
        live: changes to be made at steps that are known: those of other runs, or of the user who resumes.
    """

    prepared: PreparedRun
    recipe: Recipe
    description: RunDescription
    history: RunHistory
    checkpoints: CheckpointStore
    found: Found | None
    config_history: tuple[dict[str, Any], ...]
    live: tuple[LiveChange, ...]

    @property
    def run_dir(self) -> Path:
        return self.prepared.run_dir

    def open_files(self, api_address: str) -> RunFiles:
        """The files that this process writes."""
        return RunFiles(self.run_dir, self.description, api_address=api_address)

    def disk(self, files: RunFiles) -> Disk:
        """Where the run keeps its state."""
        store = DiskStore(
            self.checkpoints,
            files,
            self.recipe,
            run_id=self.prepared.run_id,
            config_history=self.config_history,
        )
        book = RunBook(
            self.run_dir,
            self.recipe,
            self.prepared.prompts.evaluation,
            reported={each.policy_version for each in self.history.evaluations},
        )
        return Disk(
            store=store,
            book=book,
            checkpoint=self.found.checkpoint if self.found else None,
            changes=ChangeFile(self.run_dir / CHANGES_FILE),
            live=self.live,
        )


def open_run(prepared: PreparedRun, checkpoint: str | None) -> OpenRun:
    """Bring the files of a directory that this process holds back to the checkpoint that the run goes on from.

    Args:
        checkpoint: a name or "latest"; "" begins; None: the latest there is, or from nothing, as after a death.
    Raises:
        UserError: a key of the recipe may not change.
        CheckpointError: the checkpoint asked for cannot be used.
    """
    run_dir = prepared.run_dir
    checkpoints = CheckpointStore(run_dir / CHECKPOINTS_DIR)
    found = _find(checkpoints, prepared, checkpoint)
    resumed = _resumed_recipe(found.checkpoint, prepared) if found else _begun_recipe(prepared)
    if found:
        # First: killed between the two, the run must not take up a checkpoint whose lines are gone.
        checkpoints.set_aside_after(found.checkpoint)
    forget_later_evaluations(run_dir, found.checkpoint.manifest.step if found else -1)
    reopen_run_dir(run_dir, logs=found.checkpoint.manifest.logs if found else {})
    description = describe_run(resumed.base, run_id=prepared.run_id, run_dir=str(run_dir))
    return OpenRun(
        prepared=prepared,
        recipe=resumed.base,
        description=description,
        history=read_history(run_dir, description),
        checkpoints=checkpoints,
        found=found,
        config_history=_config_history(resumed, found.checkpoint if found else None),
        live=resumed.live,
    )


def _find(checkpoints: CheckpointStore, prepared: PreparedRun, checkpoint: str | None) -> Found | None:
    found: Found | None = None
    if checkpoint is None:
        found = checkpoints.latest()
    elif checkpoint:
        found = checkpoints.get(checkpoint)
    if found and found.checkpoint.manifest.run_id != prepared.run_id:
        raise CheckpointError(
            f"a run must go on from its own checkpoint, {found.checkpoint.name} is of "
            f"{found.checkpoint.manifest.run_id} and this run is {prepared.run_id} ({prepared.run_dir})"
        )
    return found


def _resumed_recipe(checkpoint: Checkpoint, prepared: PreparedRun) -> ResumedRecipe:
    """Recipe keys that the run goes on with other values of.

    Raises:
        RecipeError: one that must stay as it was.
    """
    where, changes = checkpoint.path / SAVED_RECIPE_FILE, prepared.run_dir / CHANGES_FILE
    state = checkpoint.read_json(STATE_FILE)
    return recipe_on_resume(
        Recipe.parse(checkpoint.read_json(SAVED_RECIPE_FILE), base_dir=prepared.run_dir, where=str(where)),
        prepared.recipe,
        prepared.overrides,
        state=LiveState.from_json(state.get("live", {})),
        recorded=read_changes(changes) if changes.exists() else (),
        version=int(state["version"]),
    )


def _begun_recipe(prepared: PreparedRun) -> ResumedRecipe:
    """That of a run that begins, with the live changes of another one that it is to repeat."""
    repeated = prepared.options.changes
    return ResumedRecipe(base=prepared.recipe, changes=(), live=read_changes(repeated) if repeated else ())


def _config_history(resumed: ResumedRecipe, checkpoint: Checkpoint | None) -> tuple[dict[str, Any], ...]:
    """One entry per recipe that the run had: from which step on, its hash, and the keys that changed."""
    step = checkpoint.manifest.step if checkpoint else 0
    entry = {
        "step": step,
        "recipe_hash": resumed.base.content_hash,
        "changes": [dataclasses.asdict(each) for each in resumed.changes],
    }
    if checkpoint is None:
        return (entry,)
    earlier = tuple(without_live_changes(checkpoint.read_json(STATE_FILE)[CONFIG_HISTORY]))
    return earlier if earlier[-1]["recipe_hash"] == entry["recipe_hash"] else (*earlier, entry)
