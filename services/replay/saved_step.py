"""What a replay reads of a run: a step that was skipped, its groups, the recipe, and the policy to replay against.

Changes nothing, and may read while the run goes on.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.checkpoints.checkpoint import Checkpoint
from services.checkpoints.store import CheckpointStore
from services.group_files import SavedGroup, read_groups
from services.live.changes import CHANGES_FILE, read_changes, recipe_at
from services.recipe import Recipe, load_recipe
from services.run_dir import CHECKPOINTS_DIR, RECIPE_FILE, read_run_id
from services.skipped_step import GROUPS_FILE, SKIPPED_DIR, STEP_FILE, SkippedStep, read_skipped
from shaping.errors import CheckpointError, UserError

START = "start"
"""Name of the starting policy, where a checkpoint could be named."""

_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedStep:
    """A step that was skipped.

    Args:
        recipe: that the step was to be trained by, live changes included.
        groups: in the order of `skipped.lines`.
    """

    run_dir: Path
    directory: Path
    recipe: Recipe
    skipped: SkippedStep
    groups: tuple[SavedGroup, ...]

    @property
    def trained_version(self) -> int:
        """The policy version that the step was to train."""
        return self.skipped.step - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPolicy:
    """A policy of the run.

    Args:
        checkpoint: that holds it; None for the starting policy.
    """

    checkpoint: Checkpoint | None

    @property
    def name(self) -> str:
        return self.checkpoint.name if self.checkpoint else START

    @property
    def version(self) -> int:
        return self.checkpoint.manifest.policy_version if self.checkpoint else 0


def open_step(path: Path) -> SavedStep:
    """Read a skipped step.

    Args:
        path: of the step, or of a run: then its latest skipped step.
    Raises:
        UserError: neither of the two, or a run without a skipped step.
        CheckpointError: a file of the step is damaged.
    """
    directory = path.resolve() if (path / STEP_FILE).is_file() else _latest_step(path.resolve())
    run_dir = directory.parent.parent
    read_run_id(run_dir)
    skipped, groups = read_skipped(directory), read_groups(directory / GROUPS_FILE)
    named, found = [each.group_id for each in skipped.lines], [summary.group_id for summary, _ in groups]
    if named != found:
        raise CheckpointError(f"{GROUPS_FILE} must hold the groups that {STEP_FILE} names, found others ({directory})")
    changes = run_dir / CHANGES_FILE
    recorded = read_changes(changes) if changes.exists() else ()
    recipe = recipe_at(load_recipe(run_dir / RECIPE_FILE), recorded, skipped.step)
    return SavedStep(run_dir=run_dir, directory=directory, recipe=recipe, skipped=skipped, groups=groups)


def _latest_step(run_dir: Path) -> Path:
    if _NAME.fullmatch(run_dir.name) and run_dir.parent.name == SKIPPED_DIR and run_dir.is_dir():
        raise CheckpointError(f"a skipped step must hold {STEP_FILE}, which is written last: none in {run_dir}")
    if not run_dir.is_dir():
        raise UserError(f"DIR must be a run's directory or one below its {SKIPPED_DIR}/, found none ({run_dir})")
    read_run_id(run_dir)
    names = [each.parent.name for each in (run_dir / SKIPPED_DIR).glob(f"*/{STEP_FILE}")]
    steps = {int(match[1]): match[0] for name in names if (match := _NAME.fullmatch(name))}
    if not steps:
        raise UserError(f"only a step that was skipped is kept for a replay, this run has none ({run_dir})")
    return run_dir / SKIPPED_DIR / steps[max(steps)]


def choose_policy(step: SavedStep, name: str) -> ReplayPolicy:
    """The policy that is asked for; without a name the newest there is that the step could have trained.

    Args:
        name: of a checkpoint, "latest", "start" for the starting policy, or "".
    Raises:
        CheckpointError: not there, or damaged.
    """
    store = CheckpointStore(step.run_dir / CHECKPOINTS_DIR)
    if name == START:
        return ReplayPolicy(checkpoint=None)
    if name:
        return ReplayPolicy(checkpoint=store.get(name).checkpoint)
    for checkpoint in reversed(store.list()):
        if checkpoint.manifest.policy_version <= step.trained_version:
            with suppress(CheckpointError):
                checkpoint.verify()
                return ReplayPolicy(checkpoint=checkpoint)
    return ReplayPolicy(checkpoint=None)
