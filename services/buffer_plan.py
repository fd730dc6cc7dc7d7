"""What a recipe means for the group buffer: its sizes, its admission, and the bound of staleness."""

import math

from rollout.admissions.base import Admission
from rollout.buffer_config import BufferConfig
from services.recipe import Recipe
from shaping.components import load
from shaping.errors import RecipeError


def buffer_config(recipe: Recipe) -> BufferConfig:
    """Sizes of the group buffer.

    Raises:
        RecipeError: an admission that cannot be, or sizes with which no batch could ever be complete.
    """
    groups, run = recipe.rollout.groups_per_step, recipe.run
    admission: Admission = load("rollout.admissions", run.admission, "run.admission").build()
    room = admission.max_buffered_groups or (run.max_staleness + 1) * groups + admission.surplus(groups)
    if room < groups:
        raise RecipeError(
            f"a step needs {groups} groups, but only {room} may wait: the run could never take a step; "
            f"set max_buffered_groups to at least {groups}, or to 0 (run.admission.max_buffered_groups)"
        )
    return BufferConfig(
        groups_per_step=groups,
        max_staleness=run.max_staleness,
        num_steps=run.steps,
        max_buffered_groups=room,
        max_attempts_per_step=math.ceil(run.max_attempts_per_step * groups),
        at_cap=run.at_attempt_cap,
        admission=admission,
    )
