"""The live changes of one run: from the intent to every role that they concern, at the border where they belong.

    intent, changes.jsonl --> take --> waiting --(border)--> all roles, or none --> applied --> event, file, checkpoint

A change applies as a whole: at the step border when any of its keys is one of the group border, otherwise right before
the next learner step. One whose step is known, as it was made before, applies at exactly that step. Those without
a step apply in the order of their generations.

`step` here counts finished steps, as LearnerPort.step has it; the steps that are told count from 1.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rollout.requests import GroupFactory
from services.deadlines import within
from services.live.changes import AppliedChange, LiveState
from services.live.keys import border_of, changed_recipe
from services.live.rows import Applies
from services.ports import LearnerPort, ShapingPort
from services.recipe import Recipe
from services.reports import LiveChange, RunEvent, RunState
from services.schedules import sampling_at
from shaping.errors import DeadlineMissed, RecipeError, RoleDied, RunFailed, UserError

TEMPERATURE = "rollout.sampling.temperature"

Step = Callable[[Recipe], Awaitable[None]]


class LiveSettings:
    """Applies changes, and knows the recipe that holds.

    Args:
        base: the recipe that every role was started with.
        saved: of the checkpoint that the run goes on from; None for a run that begins.
        recorded: changes that were made before, with their steps.
        report: tells the control plane.
        record: told of each change that took.
    """

    def __init__(
        self,
        base: Recipe,
        *,
        learner: LearnerPort,
        shaping: Sequence[ShapingPort],
        factory: GroupFactory,
        report: Callable[[RunEvent], Awaitable[None]],
        record: Callable[[AppliedChange], None],
        saved: LiveState | None = None,
        recorded: Iterable[LiveChange] = (),
    ) -> None:
        self._base = base
        self._learner = learner
        self._shaping = tuple(shaping)
        self._factory = factory
        self._report = report
        self._record = record
        self._begins = saved is None
        self._state = saved or LiveState()
        self._recipe = self._state.recipe(base)
        self._recorded = tuple(recorded)
        self._waiting: dict[int, LiveChange] = {}
        # By generation, those whose number a change with other values has; each is told once.
        self._clashing: dict[int, LiveChange] = {}
        self._told: set[int] = set()
        self._on_recipe: Callable[[Recipe], None] = lambda _: None
        self._has_groups: Callable[[], bool] = lambda: False
        self.take((*(each.as_order() for each in self._state.scheduled), *self._recorded))

    @property
    def recipe(self) -> Recipe:
        """The recipe that holds now; before `at_start` that of the checkpoint."""
        return self._recipe

    def attach(self, *, on_recipe: Callable[[Recipe], None], has_groups: Callable[[], bool]) -> None:
        """Name the orchestrator.

        Args:
            on_recipe: goes on with the numbers that are its own, or raises RecipeError and goes on as it was; it may
                also be asked to go back.
            has_groups: whether any group is in flight or waits for the learner.
        """
        self._on_recipe, self._has_groups = on_recipe, has_groups

    def state(self) -> dict[str, Any]:
        """JSON data, for a checkpoint."""
        dated = [(each, each.at_step) for each in self._in_order() if each.at_step is not None]
        scheduled = tuple(
            AppliedChange(generation=each.generation, step=step, values=dict(each.values)) for each, step in dated
        )
        return replace(self._state, scheduled=scheduled).as_json()

    def take(self, changes: Iterable[LiveChange]) -> None:
        """Hear of changes; those that are known change nothing."""
        made = {each.generation: each.values for each in self._state.applied}
        for each in changes:
            known = self._waiting.get(each.generation)
            values = made.get(each.generation, known.values if known else each.values)
            if values != each.values:
                if each.generation not in self._told:
                    self._clashing[each.generation] = each
            elif each.generation not in self._state.generations and (known is None or known.at_step is None):
                self._waiting[each.generation] = each

    async def at_start(self, version: int) -> None:
        """Before anything is admitted: bring the roles to the recipe that holds.

        A run that begins has no groups yet, so that all changes apply at once. One that goes on may have some of the
        step under way, which are of the recipe before.

        Args:
            version: steps finished.
        Raises:
            RunFailed: a role refuses what it took before.
        """
        if self._recorded:
            await self._tell_recorded()
        # It may be that of an earlier sitting of the run, which had gone further.
        self._factory.resample(sampling_at(self._recipe.rollout.sampling))
        if self._recipe != self._base:
            try:
                self._on_recipe(self._recipe)
                await self._tell_roles(self._base, self._recipe)
            except UserError as error:
                cause = f"the live changes of the run cannot be made again: {error}"
                raise RunFailed(role="orchestrator", cause=cause) from error
        for each in self._in_order():
            if self._is_due(each, version + 1, undated=self._begins):
                await self._apply(each, version + 1)

    async def before_step(self, step: int) -> None:
        """Right before learner step `step`, its batch taken: what concerns that step alone."""
        await self._tell_clashes()
        for each in self._in_order():
            is_later = border_of(each.values) is Applies.NEXT_GROUP
            if is_later and each.at_step is None:
                # What comes after it waits with it: the last one must have the last word.
                return
            if not is_later and self._is_due(each, step + 1, undated=True):
                await self._apply(each, step + 1)

    async def after_step(self, step: int) -> None:
        """Between learner step `step` and the publication of its weights, its slots not free yet: everything."""
        for each in self._in_order():
            if self._is_due(each, step + 2, undated=True):
                await self._apply(each, step + 2)

    def _in_order(self) -> Iterator[LiveChange]:
        return iter([self._waiting[generation] for generation in sorted(self._waiting)])

    @staticmethod
    def _is_due(change: LiveChange, step: int, *, undated: bool) -> bool:
        return undated if change.at_step is None else change.at_step <= step

    async def _apply(self, change: LiveChange, step: int) -> None:
        """Make a change, for the learner steps from `step`, counted from 1, on."""
        del self._waiting[change.generation]
        try:
            wanted = changed_recipe(self._recipe, change.values, base=self._base)
            self._check_groups(change)
            await self._change(wanted)
        except UserError as error:
            await self._refuse(change, error)
            return
        applied = AppliedChange(generation=change.generation, step=step, values=dict(change.values))
        self._recipe = wanted
        self._state = replace(self._state, applied=(*self._state.applied, applied))
        self._record(applied)
        details = {"generation": change.generation, "step": step, "values": dict(change.values)}
        await self._say("config_applied", str(applied), details)

    async def _refuse(self, change: LiveChange, error: UserError) -> None:
        self._state = replace(self._state, refused=(*self._state.refused, change.generation))
        await self._tell_failed(change, error)

    async def _tell_clashes(self) -> None:
        while self._clashing:
            generation, change = self._clashing.popitem()
            self._told.add(generation)
            error = RecipeError(f"a recorded change has the number {generation} already; ask for it once more")
            await self._tell_failed(change, error)

    async def _tell_recorded(self) -> None:
        """A control plane that does not know of these counts on from them."""
        changes = [
            {"generation": each.generation, "step": each.at_step, "values": dict(each.values)}
            for each in self._recorded
        ]
        message = f"{len(changes)} live changes are made as recorded"
        await self._say("config_recorded", message, {"changes": changes})

    async def _tell_failed(self, change: LiveChange, error: UserError) -> None:
        message = f"generation {change.generation} of the config is not applied, the run goes on as it was: {error}"
        details = {"generation": change.generation, "values": dict(change.values), "error": str(error)}
        await self._say("config_failed", message, details)

    def _check_groups(self, change: LiveChange) -> None:
        if TEMPERATURE in change.values and self._has_groups():
            raise RecipeError(
                "a temperature must change between two steps with no group under way or waiting, found some that were "
                f"admitted for a later step; change it again once they are trained ({TEMPERATURE})"
            )

    async def _change(self, wanted: Recipe) -> None:
        """Bring everybody to a recipe.

        Raises:
            UserError: somebody refuses it; nobody has it then.
        """
        before = self._recipe
        self._on_recipe(wanted)
        try:
            await self._tell_roles(before, wanted)
        except UserError:
            self._on_recipe(before)
            raise

    async def _tell_roles(self, before: Recipe, wanted: Recipe) -> None:
        told: list[Step] = []
        try:
            for role in self._concerned(before, wanted):
                told.append(role)
                await role(wanted)
        except UserError:
            for role in reversed(told):
                await role(before)
            raise
        self._factory.resample(sampling_at(wanted.rollout.sampling))

    def _concerned(self, before: Recipe, wanted: Recipe) -> Iterator[Step]:
        """Those that read what has changed."""
        if (before.learner, before.rollout.sampling) != (wanted.learner, wanted.rollout.sampling):
            yield self._tell_learner
        if (before.shaping, before.run.dump_groups_per_step) != (wanted.shaping, wanted.run.dump_groups_per_step):
            yield self._tell_shapers

    async def _tell_learner(self, recipe: Recipe) -> None:
        seconds, key = recipe.run.deadlines.step_seconds, "run.deadlines.step_seconds"
        configured = self._learner.configure(recipe)
        await _asked(within(seconds, configured, role="learner", what="a live change", key=key))

    async def _tell_shapers(self, recipe: Recipe) -> None:
        answers = await asyncio.gather(*(_tell_shaper(port, recipe) for port in self._shaping), return_exceptions=True)
        for each in answers:
            if each is not None:
                raise each

    async def _say(self, kind: str, message: str, details: Mapping[str, Any]) -> None:
        await self._report(RunEvent(kind=kind, message=message, state=RunState.RUNNING, details=details))


async def _tell_shaper(port: ShapingPort, recipe: Recipe) -> None:
    """Tell one shaping worker. One that is gone or late has the recipe with its next process, or in its turn: the pool
    sees to it, and training need not wait.
    """
    seconds, key = recipe.run.deadlines.group_seconds, "run.deadlines.group_seconds"
    what = f"a live change of {port.worker_id}"
    with contextlib.suppress(RoleDied, DeadlineMissed):
        await _asked(within(seconds, port.configure(recipe), role="shaping", what=what, key=key))


async def _asked(answer: Awaitable[None]) -> None:
    """Wait for a role.

    Raises:
        RecipeError: it did not take the change, whatever the cause; a role that still answers can go on as it was.
        RoleDied, DeadlineMissed: it may answer no more.
    """
    try:
        await answer
    except (RoleDied, DeadlineMissed):
        raise
    except RunFailed as failure:
        raise RecipeError(str(failure)) from failure
