"""Recipes that have live keys, and settings over fake roles."""

from dataclasses import dataclass, field
from typing import Any

from fake_roles import FakeLearner, FakeShaping
from prompt_builders import make_factory
from recipe_builders import make_recipe

from rollout.requests import GroupFactory
from services.live.changes import AppliedChange, LiveState
from services.live.settings import LiveSettings
from services.recipe import Recipe
from services.reports import LiveChange, RunEvent
from services.schedules import sampling_at

FULL: dict[str, Any] = {
    "data.train": {"kind": "jsonl", "path": "/nowhere/rows.jsonl", "steps_field": "steps"},
    "data.evaluation": {"kind": "arithmetic_task", "size": 4},
    "rollout.plan": "hinted_second_round",
    "rollout.group_size": 4,
    "learner.kl": {"coefficient": 0.5},
    "learner.old_logprobs": "recompute",
    "learner.correction": {"mode": "mask"},
    "learner.token_plans": ["clip_cov", "kl_cov", "forking_tokens"],
    "learner.regularisers": ["entropy_bonus", "hint_nll"],
    # Room for every factor, and none is used: with surplus a temperature is not live.
    "run.admission": {"kind": "rsr", "over_sampling": 1.0, "max_age": 1_000_000},
    "run.force": True,
}
"""Changes of the smallest recipe that give it every live key."""


def full_recipe() -> Recipe:
    return make_recipe(FULL)


@dataclass(slots=True, kw_only=True)
class FakeLive:
    """Settings over fake roles, and all that they do."""

    settings: LiveSettings
    learner: FakeLearner
    shapers: list[FakeShaping]
    factory: GroupFactory
    events: list[RunEvent]
    written: list[AppliedChange]
    recipes: list[Recipe] = field(default_factory=list)
    has_groups: bool = False

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Details of the events of a kind."""
        return [dict(each.details) for each in self.events if each.kind == kind]


def make_live(
    recipe: Recipe | None = None,
    *,
    saved: LiveState | None = None,
    recorded: tuple[LiveChange, ...] = (),
    num_shapers: int = 2,
) -> FakeLive:
    base = recipe or make_recipe({"run.steps": 20})
    learner, shapers = FakeLearner(), [FakeShaping(f"shaping-{index}") for index in range(num_shapers)]
    factory = make_factory(sampling_at=sampling_at(base.rollout.sampling))
    events: list[RunEvent] = []
    written: list[AppliedChange] = []

    async def report(event: RunEvent) -> None:
        events.append(event)

    settings = LiveSettings(
        base,
        learner=learner,
        shaping=shapers,
        factory=factory,
        report=report,
        record=written.append,
        saved=saved,
        recorded=recorded,
    )
    live = FakeLive(
        settings=settings, learner=learner, shapers=shapers, factory=factory, events=events, written=written
    )
    settings.attach(on_recipe=live.recipes.append, has_groups=lambda: live.has_groups)
    return live


def change(generation: int, at_step: int | None = None, **values: Any) -> LiveChange:
    """A change; a double underscore stands for the dot of a key."""
    named = {key.replace("__", "."): value for key, value in values.items()}
    return LiveChange(generation=generation, values=named, at_step=at_step)
