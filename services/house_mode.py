"""What a recipe must be for a run in one process."""

from services.recipe import Recipe
from shaping.errors import RecipeError


def check_house_mode(recipe: Recipe, *, with_learner: bool = True) -> None:
    """Refuse what needs process borders.

    Raises:
        RecipeError: the vllm engine, or a learner that needs several ranks.
    """
    if (kind := recipe.rollout.engine.kind) == "vllm":
        raise RecipeError(
            f"house mode runs in one process: it needs rollout.engine.kind hf or scripted, got {kind} "
            "(rollout.engine.kind)"
        )
    if with_learner and (engine := recipe.learner.engine) != "torch":
        raise RecipeError(
            f"house mode runs in one process: it needs learner.engine torch, got {engine} (learner.engine)"
        )
