"""What LoRA trains of a model: the size of its adapters, and targets that it lacks. Reads safetensors headers only."""

import math
from pathlib import Path

from rollout.model_tensors import model_shapes
from rollout.weight_checks import adapter_shapes
from services.recipe import Recipe
from shaping.errors import DataError, RecipeError
from shaping.training import AdapterLayout


def num_adapter_parameters(recipe: Recipe) -> int | None:
    """Numbers in all A and B together.

    Returns:
        0 without LoRA; None where the model is a Hugging Face name, or no safetensors.
    Raises:
        RecipeError: a target that names no layer of the model, or adapters to be published beside starting weights that
            engines cannot read.
    """
    lora, folder = recipe.learner.lora, Path(recipe.model.path)
    if not lora.rank:
        return 0
    if not folder.is_absolute():
        return None
    try:
        shapes = model_shapes(folder)
    except DataError as error:
        if lora.publish == "merged":
            return None
        raise RecipeError(
            f"engines add adapters to the model's safetensors: {error}; set it to merged (learner.lora.publish)"
        ) from error
    # Linear layers are those of the numbered blocks; embeddings, which are as wide, stand beside them.
    layers = {name: shape for name, shape in shapes.items() if any(part.isdigit() for part in name.split("."))}
    names = {name.split(".")[-2] for name, shape in layers.items() if name.endswith(".weight") and len(shape) == 2}
    for target in lora.targets:
        if target not in names:
            raise RecipeError(
                f"a LoRA target must be the name of linear layers, got {target!r}; {folder} has "
                f"{', '.join(sorted(names))} (learner.lora.targets)"
            )
    adapter = AdapterLayout(rank=lora.rank, scaling=lora.alpha / lora.rank, targets=lora.targets)
    return sum(math.prod(shape) for shape in adapter_shapes(layers, adapter).values())
