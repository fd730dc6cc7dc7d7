"""`lessrl export`: the policy of a checkpoint as a Hugging Face model, without the run."""

import os
from pathlib import Path

from services.checkpoints.store import CheckpointStore
from services.recipe import load_recipe
from services.run_dir import CHECKPOINTS_DIR, RECIPE_FILE
from services.run_store import LEARNER_DIR
from shaping.components import import_module_of
from shaping.errors import UserError


def export(run_dir: Path, name: str, out: Path) -> str:
    """Write the model.

    Args:
        name: of a checkpoint, or "latest".
        out: new or empty.
    Returns:
        One line that says what was written.
    Raises:
        UserError: no run's directory, or `out` holds something.
        CheckpointError: no such checkpoint, or a damaged one.
    """
    recipe_file = run_dir / RECIPE_FILE
    if not recipe_file.is_file():
        raise UserError(f"a run's directory must hold {RECIPE_FILE}, found none ({run_dir})")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out must be a new or empty directory, found something there ({out})")
    recipe = load_recipe(recipe_file)
    found = CheckpointStore(run_dir / CHECKPOINTS_DIR).get(name).checkpoint
    if recipe.cluster.device == "cpu":
        # Read by DeepSpeed when it is imported; without it, it looks for accelerators and says so.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    module = import_module_of("learner", "checkpoint_export")
    module.export_checkpoint(found.path / LEARNER_DIR, recipe.model.path, out)
    return f"{found.name}, policy version {found.manifest.policy_version}: {out}"
