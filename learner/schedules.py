"""A number of a recipe that may also be a schedule over learner steps."""

from dataclasses import dataclass

from shaping.components import ComponentSpec, load
from shaping.schedules.base import Schedule

SCHEDULES = "shaping.schedules"


@dataclass(frozen=True, slots=True)
class Constant:
    """The same number at every step."""

    number: float

    def value(self, step: int) -> float:  # noqa: ARG002 - a Schedule takes the step
        return self.number


def schedule_of(value: float | ComponentSpec, where: str) -> Schedule:
    """A plain number as a constant, a component as what its file builds.

    Raises:
        RecipeError: no such schedule, or wrong options.
    """
    if isinstance(value, ComponentSpec):
        schedule: Schedule = load(SCHEDULES, value, where).build()
        return schedule
    return Constant(float(value))
