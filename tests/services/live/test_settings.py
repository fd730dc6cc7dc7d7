"""Live changes over fake roles: at which border they apply, in which order, to everybody or to nobody."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_builders import FakeLive, change, make_live
from recipe_builders import make_recipe

from services.live.changes import AppliedChange, LiveState
from services.recipe import Recipe
from services.reports import LiveChange
from services.schedules import sampling_at
from shaping.errors import DeadlineMissed, RecipeError, RoleDied, RunFailed

RATE = "learner.optimizer.learning_rate"


def rate(generation: int, value: float, at_step: int | None = None) -> LiveChange:
    return change(generation, at_step, learner__optimizer__learning_rate=value)


def temperature(generation: int, value: float, at_step: int | None = None) -> LiveChange:
    return change(generation, at_step, rollout__sampling__temperature=value)


def outside(generation: int, value: str, at_step: int | None = None) -> LiveChange:
    return change(generation, at_step, shaping__shapers__less__outside=value)


def sampled_at(live: FakeLive) -> float:
    """The temperature of the next group."""
    planned = live.factory.next_request(live.factory.open(0), num_rounds_done=0, step=0)
    assert planned is not None
    return planned[1].sampling.temperature


# -- borders


async def test_a_change_of_the_step_border_applies_right_before_the_next_step() -> None:
    live = make_live()
    await live.settings.at_start(0)
    live.settings.take([rate(2, 1e-3)])
    assert live.learner.recipe is None
    await live.settings.before_step(4)
    assert live.learner.recipe is not None and live.learner.recipe.learner.optimizer.learning_rate == 1e-3
    # Four steps are finished: it holds from the fifth on.
    assert live.heard("config_applied") == [{"generation": 2, "step": 5, "values": {RATE: 1e-3}}]
    assert live.written == [AppliedChange(generation=2, step=5, values={RATE: 1e-3})]


async def test_a_change_of_the_group_border_waits_for_it_and_holds_from_the_following_step_on() -> None:
    live = make_live()
    live.settings.take([])
    await live.settings.at_start(0)
    live.settings.take([temperature(2, 0.5)])
    await live.settings.before_step(4)
    assert sampled_at(live) == 1.0 and live.learner.recipe is None
    await live.settings.after_step(4)
    assert sampled_at(live) == 0.5
    assert live.learner.recipe is not None and live.learner.recipe.rollout.sampling.temperature == 0.5
    assert [each["step"] for each in live.heard("config_applied")] == [6]


async def test_before_the_first_group_of_a_run_every_change_applies_at_once() -> None:
    live = make_live()
    live.settings.take([temperature(2, 0.5), rate(3, 1e-3)])
    await live.settings.at_start(0)
    assert [(each["generation"], each["step"]) for each in live.heard("config_applied")] == [(2, 1), (3, 1)]
    assert sampled_at(live) == 0.5


async def test_a_run_that_goes_on_has_groups_of_the_recipe_before() -> None:
    live = make_live(saved=LiveState())
    live.settings.take([temperature(2, 0.5)])
    await live.settings.at_start(3)
    assert sampled_at(live) == 1.0
    await live.settings.before_step(3)
    assert live.heard("config_applied") == []
    await live.settings.after_step(3)
    assert [each["step"] for each in live.heard("config_applied")] == [5]


async def test_a_change_whose_step_is_known_applies_at_exactly_that_step() -> None:
    live = make_live(recorded=(rate(2, 1e-3, 6), temperature(3, 0.5, 8), outside(4, "keep", 1)))
    await live.settings.at_start(0)
    for step in range(10):
        await live.settings.before_step(step)
        await live.settings.after_step(step)
    assert [(each["generation"], each["step"]) for each in live.heard("config_applied")] == [(4, 1), (2, 6), (3, 8)]


async def test_a_change_that_must_wait_for_its_step_holds_no_other_back() -> None:
    live = make_live(recorded=(rate(2, 1e-3, 50),))
    await live.settings.at_start(0)
    live.settings.take([rate(3, 2e-3)])
    await live.settings.before_step(0)
    assert live.settings.recipe.learner.optimizer.learning_rate == 2e-3


# -- order


async def test_the_last_word_is_the_last_generations() -> None:
    live = make_live()
    await live.settings.at_start(0)
    both = change(2, learner__optimizer__learning_rate=1e-3, run__steps=30)
    live.settings.take([rate(3, 2e-3), both])
    # Generation 2 waits for the group border, and what came after it waits with it.
    await live.settings.before_step(0)
    assert live.heard("config_applied") == []
    await live.settings.after_step(0)
    assert [each["generation"] for each in live.heard("config_applied")] == [2, 3]
    assert live.settings.recipe.learner.optimizer.learning_rate == 2e-3


async def test_a_change_that_is_told_again_is_made_once() -> None:
    live = make_live()
    await live.settings.at_start(0)
    for step in range(4):
        live.settings.take([rate(2, 1e-3), outside(3, "keep")])
        await live.settings.before_step(step)
        await live.settings.after_step(step)
    assert [each["generation"] for each in live.heard("config_applied")] == [2, 3]
    assert live.learner.calls == ["configure"]


CHANGES = st.lists(
    st.tuples(st.sampled_from(["rate", "outside"]), st.integers(0, 7), st.booleans()), min_size=1, max_size=6
)


@given(asked=CHANGES, again=st.lists(st.integers(0, 5), max_size=4))
@settings(max_examples=60, deadline=None)
def test_whenever_changes_come_they_are_made_once_in_order_and_a_replay_makes_them_at_the_same_steps(
    asked: list[tuple[str, int, bool]], again: list[int]
) -> None:
    """`asked`: what, at which step, and whether while the step is under way."""
    asked = sorted(asked, key=lambda each: (each[1], each[2]))
    changes = {
        index + 2: rate(index + 2, 0.001 * (index + 1)) if kind == "rate" else outside(index + 2, "keep")
        for index, (kind, _, _) in enumerate(asked)
    }

    def due(step: int, is_under_way: bool) -> list[LiveChange]:
        now = [changes[i + 2] for i, each in enumerate(asked) if each[1:] == (step, is_under_way)]
        known = [changes[i + 2] for i, each in enumerate(asked) if each[1:] < (step, is_under_way)]
        return [*now, *(known if step in again else [])]

    async def walk(live: FakeLive, ask: bool) -> list[tuple[int, float, str]]:
        held = []
        await live.settings.at_start(0)
        for step in range(10):
            live.settings.take(due(step, False) if ask else [])
            await live.settings.before_step(step)
            recipe = live.settings.recipe
            held.append((step, recipe.learner.optimizer.learning_rate, str(recipe.shaping.shapers[0].options)))
            live.settings.take(due(step, True) if ask else [])
            await live.settings.after_step(step)
        return held

    first = make_live()
    held = asyncio.run(walk(first, ask=True))
    made = [each["generation"] for each in first.heard("config_applied")]
    assert made == sorted(changes)
    dated = tuple(LiveChange(generation=a.generation, values=a.values, at_step=a.step) for a in first.written)
    again_live = make_live(recorded=dated)
    assert asyncio.run(walk(again_live, ask=False)) == held
    assert again_live.written == first.written


async def test_recorded_changes_are_told_at_the_start_so_that_nobody_gives_their_numbers_again() -> None:
    live = make_live(recorded=(rate(2, 1e-3, 6), outside(3, "keep", 8)))
    await live.settings.at_start(0)
    (told,) = live.heard("config_recorded")
    assert told["changes"] == [
        {"generation": 2, "step": 6, "values": {RATE: 1e-3}},
        {"generation": 3, "step": 8, "values": {"shaping.shapers.less.outside": "keep"}},
    ]
    fresh = make_live()
    await fresh.settings.at_start(0)
    assert fresh.events == []


async def test_a_change_whose_number_a_recorded_one_has_is_told_once_and_takes_nothings_place() -> None:
    live = make_live(recorded=(rate(2, 1e-3, 3),))
    await live.settings.at_start(0)
    for step in range(5):
        live.settings.take([rate(2, 9e-3), rate(2, 1e-3, 3)])
        await live.settings.before_step(step)
        await live.settings.after_step(step)
    (failed,) = live.heard("config_failed")
    assert failed["values"] == {RATE: 9e-3} and "ask for it once more" in failed["error"]
    assert live.heard("config_applied") == [{"generation": 2, "step": 3, "values": {RATE: 1e-3}}]


# -- everybody or nobody


async def test_everybody_whom_a_change_concerns_is_told_and_nobody_else() -> None:
    live = make_live()
    await live.settings.at_start(0)
    live.settings.take([rate(2, 1e-3)])
    await live.settings.before_step(0)
    assert (live.learner.calls, [each.calls for each in live.shapers]) == (["configure"], [[], []])
    live.settings.take([outside(3, "keep")])
    await live.settings.after_step(0)
    assert (live.learner.calls, [each.calls for each in live.shapers]) == (["configure"], [["configure"]] * 2)
    live.settings.take([change(4, run__steps=30)])
    await live.settings.after_step(1)
    assert (live.learner.calls, [each.calls for each in live.shapers]) == (["configure"], [["configure"]] * 2)
    assert [each.run.steps for each in live.recipes] == [20, 20, 30]


async def refuse(live: FakeLive, asked: LiveChange) -> None:
    before = live.settings.recipe
    live.settings.take([asked])
    await live.settings.after_step(0)
    assert live.settings.recipe == before
    assert live.heard("config_applied") == live.written == []
    (failed,) = live.heard("config_failed")
    assert failed["generation"] == asked.generation and failed["values"] == asked.values and failed["error"]
    assert live.settings.state() == LiveState(refused=(asked.generation,)).as_json()
    # It is not tried again.
    live.settings.take([asked])
    await live.settings.after_step(1)
    assert len(live.events) == 1


BOTH = change(2, learner__optimizer__learning_rate=1e-3, shaping__shapers__less__outside="keep")


@pytest.mark.parametrize("error", [RecipeError("no"), RunFailed(role="shaping", cause="KeyError: x")])
async def test_a_role_that_refuses_leaves_the_old_values_with_everybody(error: Exception) -> None:
    live = make_live()
    live.shapers[1].script["configure"] = [error]
    await refuse(live, BOTH)
    # Told, and then told the recipe before once more.
    assert [each.recipe for each in (live.learner, *live.shapers)] == [live.settings.recipe] * 3
    assert live.recipes[-1] == live.settings.recipe
    assert sampled_at(live) == 1.0


async def test_a_learner_that_refuses_keeps_the_others_from_being_asked() -> None:
    live = make_live()
    live.learner.script["configure"] = [RecipeError("no")]
    await refuse(live, BOTH)
    assert [each.calls for each in live.shapers] == [[], []]


async def test_an_orchestrator_that_refuses_keeps_every_role_from_being_asked() -> None:
    live = make_live()

    def refuse_all(recipe: Recipe) -> None:
        raise RecipeError(f"no {recipe.name}")

    live.settings.attach(on_recipe=refuse_all, has_groups=lambda: False)
    await refuse(live, BOTH)
    assert live.learner.calls == []


async def test_what_is_not_live_changes_nothing_even_out_of_a_file() -> None:
    await refuse(make_live(), change(2, seed=4))


async def test_a_temperature_waits_for_no_group_it_is_refused_while_some_are_under_way() -> None:
    live = make_live()
    live.has_groups = True
    await refuse(live, temperature(2, 0.5))


@pytest.mark.parametrize("kind", [RoleDied, DeadlineMissed])
async def test_a_shaping_worker_that_is_gone_does_not_hold_a_change_back(kind: type[RunFailed]) -> None:
    live = make_live()
    await live.settings.at_start(0)
    live.shapers[0].script["configure"] = [kind(role="shaping", cause="gone")]
    live.settings.take([BOTH])
    await live.settings.after_step(0)
    assert len(live.heard("config_applied")) == 1
    assert live.shapers[1].recipe == live.settings.recipe


async def test_a_learner_that_is_gone_ends_this_process_of_the_run() -> None:
    live = make_live()
    live.learner.script["configure"] = [RoleDied(role="learner", cause="gone")]
    live.settings.take([rate(2, 1e-3)])
    with pytest.raises(RoleDied):
        await live.settings.before_step(0)
    # Nothing says that it took, so the next process makes it.
    assert live.settings.state() == LiveState().as_json() and live.written == []


# -- going on


async def test_a_run_goes_on_with_what_its_checkpoint_says_and_makes_what_came_after_it_again() -> None:
    first = make_live()
    await first.settings.at_start(0)
    checkpoints = []
    asked = {0: [rate(2, 1e-3)], 2: [outside(3, "keep")], 4: [rate(4, 2e-3)]}
    for step in range(6):
        first.settings.take(asked.get(step, []))
        await first.settings.before_step(step)
        await first.settings.after_step(step)
        checkpoints.append(json.loads(json.dumps(first.settings.state())))
    dated = tuple(LiveChange(generation=a.generation, values=a.values, at_step=a.step) for a in first.written)
    for version, saved in enumerate(checkpoints, start=1):
        state = LiveState.from_json(saved)
        again = make_live(saved=state, recorded=dated)
        # What an orchestrator is made with, before anything is started.
        assert again.settings.recipe == state.recipe(make_recipe({"run.steps": 20}))
        await again.settings.at_start(version)
        for step in range(version, 6):
            await again.settings.before_step(step)
            await again.settings.after_step(step)
        assert again.settings.recipe == first.settings.recipe
        assert again.settings.state() == first.settings.state()
        assert again.written == first.written[len(state.applied) :]
        assert again.learner.recipe == first.settings.recipe
        assert again.recipes[-1] == first.settings.recipe
        assert [each.recipe.shaping for each in again.shapers if each.recipe] == [first.settings.recipe.shaping] * 2


async def test_a_checkpoint_knows_what_is_still_to_be_made_at_its_step() -> None:
    first = make_live(recorded=(rate(2, 1e-3, 3), rate(3, 2e-3, 9)))
    await first.settings.at_start(0)
    for step in range(4):
        await first.settings.before_step(step)
        await first.settings.after_step(step)
    first.settings.take([outside(4, "keep")])
    saved = LiveState.from_json(json.loads(json.dumps(first.settings.state())))
    # What has no step yet is asked for again by whoever wants it.
    assert [(each.generation, each.step) for each in saved.scheduled] == [(3, 9)]
    again = make_live(saved=saved)
    await again.settings.at_start(4)
    for step in range(4, 10):
        await again.settings.before_step(step)
    assert again.heard("config_applied") == [{"generation": 3, "step": 9, "values": {RATE: 2e-3}}]


async def test_groups_are_sampled_as_the_checkpoint_says_whoever_sampled_before() -> None:
    live = make_live(saved=LiveState())
    live.factory.resample(sampling_at(make_recipe({"rollout.sampling": {"temperature": 0.3}}).rollout.sampling))
    await live.settings.at_start(2)
    assert sampled_at(live) == 1.0


async def test_a_generation_that_was_refused_stays_so_over_a_restart() -> None:
    live = make_live(saved=LiveState(refused=(2,)), recorded=())
    live.settings.take([rate(2, 1e-3)])
    await live.settings.at_start(1)
    await live.settings.before_step(1)
    assert live.events == []


async def test_a_role_that_no_longer_takes_what_it_took_ends_the_run_with_the_cause() -> None:
    saved = LiveState(applied=(AppliedChange(generation=2, step=1, values={RATE: 1e-3}),))
    live = make_live(saved=saved)
    live.learner.script["configure"] = [RecipeError("other ranks")]
    with pytest.raises(RunFailed, match="live changes of the run cannot be made again: other ranks"):
        await live.settings.at_start(1)
