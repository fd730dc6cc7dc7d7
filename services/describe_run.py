"""What a recipe says of a run, as the control plane, the live view and the files show it."""

from services.recipe import Recipe
from services.reports import RunDescription


def describe_run(recipe: Recipe, *, run_id: str, run_dir: str) -> RunDescription:
    """What the control plane shows of a recipe."""
    return RunDescription(
        run_id=run_id,
        name=recipe.name,
        model="/".join(recipe.model.path.split("/")[-2:]),
        algorithm=recipe.shaping.estimator.kind,
        shaping="+".join(shaper.kind for shaper in recipe.shaping.shapers) or "none",
        seed=recipe.seed,
        total_steps=recipe.run.steps,
        recipe_hash=recipe.content_hash,
        run_dir=run_dir,
        recipe=recipe.as_dict(),
    )
