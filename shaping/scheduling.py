"""A number of a recipe that may also be a schedule over learner steps."""

from shaping.components import ComponentSpec, load
from shaping.schedules.base import Schedule


def schedule_of(value: float | ComponentSpec, where: str) -> Schedule:
    """A component as what its file builds; a plain number as the kind `constant`.

    Raises:
        RecipeError: no such schedule, or wrong options.
    """
    spec = value if isinstance(value, ComponentSpec) else ComponentSpec(kind="constant", options={"value": value})
    schedule: Schedule = load("shaping.schedules", spec, where).build()
    return schedule
