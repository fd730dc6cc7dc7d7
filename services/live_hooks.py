"""Where live changes of a run's config meet its training; services/live makes them."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from services.recipe import Recipe
from services.reports import LiveChange


class LiveHooks(Protocol):
    """Called by the orchestrator at the borders where changes may take."""

    def attach(self, *, on_recipe: Callable[[Recipe], None], has_groups: Callable[[], bool]) -> None:
        """Name the orchestrator, before anything else.

        Args:
            on_recipe: goes on with the numbers that are the orchestrator's own, or raises RecipeError.
            has_groups: whether any group is in flight or waits for the learner.
        """
        ...

    def take(self, changes: Iterable[LiveChange]) -> None:
        """Hear of changes; those that are known change nothing."""
        ...

    async def at_start(self, version: int) -> None:
        """Before anything is admitted; `version` steps are finished."""
        ...

    async def before_step(self, step: int) -> None:
        """Right before learner step `step`, counted from 0, its batch taken."""
        ...

    async def after_step(self, step: int) -> None:
        """Between learner step `step` and the publication of its weights, its slots not free yet."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON data, for a checkpoint."""
        ...


class NoLiveChanges:
    """LiveHooks of a run whose config nobody changes."""

    def attach(self, *, on_recipe: Callable[[Recipe], None], has_groups: Callable[[], bool]) -> None:
        del on_recipe, has_groups

    def take(self, changes: Iterable[LiveChange]) -> None:
        del changes

    async def at_start(self, version: int) -> None:
        del version

    async def before_step(self, step: int) -> None:
        del step

    async def after_step(self, step: int) -> None:
        del step

    def state(self) -> dict[str, Any]:
        return {}
