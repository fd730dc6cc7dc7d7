"""A session: every role is started at once and reported, then the run, then the export."""

import asyncio
from dataclasses import dataclass

import pytest
from fake_evaluations import FakeBook, make_evaluation
from fake_roles import FakeControl, FakeLearner, FakeRollout, FakeShaping, settle
from fake_store import FakeStore
from prompt_builders import make_factory, make_renderer
from recipe_builders import make_recipe
from report_builders import make_event, make_step

from rollout.engine import EngineInfo
from services.describe_run import describe_run
from services.reports import ReleaseLevel, RunReport, RunState
from services.session import Broadcast, Disk, Prompts, orchestrator_config, releasable, run_session, start_roles
from shaping.errors import DataError, EngineRefused, RoleDied, RunFailed

NO_DISK = Disk(store=FakeStore(), book=FakeBook(), checkpoint=None)


@dataclass
class FakeHouse:
    rollout: tuple[FakeRollout, ...]
    shaping: tuple[FakeShaping, ...]
    learner: FakeLearner


def make_house(num_workers: int = 2) -> FakeHouse:
    workers = tuple(FakeRollout(f"rollout-{index}") for index in range(num_workers))
    return FakeHouse(rollout=workers, shaping=(FakeShaping(),), learner=FakeLearner())


async def test_every_role_is_reported_as_starting_and_then_as_ready() -> None:
    house, control = make_house(), FakeControl()
    assert [each.num_workers for each in await start_roles(make_recipe(), house, control)] == [1, 1]
    (starting,) = control.events("workers_starting")
    everyone = {("rollout-0", "rollout"), ("rollout-1", "rollout"), ("shaping-0", "shaping"), ("learner", "learner")}
    assert {(each.worker_id, each.role) for each in starting.workers} == everyone
    assert {each.state for each in starting.workers} == {"starting"}
    ready = [worker for event in control.events("worker_started") for worker in event.workers]
    assert {(each.worker_id, each.role) for each in ready} == everyone
    assert {each.state for each in ready} == {"ready"}
    assert {event.state for event in control.events("worker_started")} == {RunState.STARTING}


async def test_roles_start_at_the_same_time() -> None:
    house, control = make_house(), FakeControl()
    gate = asyncio.Event()
    for each in (*house.rollout, *house.shaping, house.learner):
        each.script["start"] = [gate]
    starting = asyncio.create_task(start_roles(make_recipe(), house, control))
    await settle()
    assert all(each.calls == ["start"] for each in (*house.rollout, *house.shaping, house.learner))
    gate.set()
    await starting


async def test_engines_say_what_they_proved_and_what_all_of_them_can_give_back() -> None:
    class TwoGpus(FakeRollout):
        async def start(self) -> EngineInfo:
            return EngineInfo(
                vocab_size=9,
                max_model_tokens=9,
                max_logprob_error=0.0,
                max_entropy_error=0.0,
                num_workers=2,
                description="two",
            )

    house = make_house(1)
    house.rollout = (TwoGpus(),)
    engines = await start_roles(make_recipe(), house, FakeControl())
    assert [each.num_workers for each in engines] == [2]
    # It says of no memory that it can give it back, the fake one does.
    assert releasable(engines) == frozenset()
    assert releasable(await start_roles(make_recipe(), make_house(), FakeControl())) == {
        ReleaseLevel.KV_CACHE,
        ReleaseLevel.ROLLOUT_WEIGHTS,
    }


async def test_a_worker_that_dies_while_it_starts_is_started_once_more() -> None:
    house, control = make_house(), FakeControl()
    gone = RoleDied(role="rollout", cause="its process ended")
    house.rollout[1].script["start"] = [gone]
    assert [each.num_workers for each in await start_roles(make_recipe(), house, control)] == [1, 1]
    assert [each.calls for each in house.rollout] == [["start"], ["start", "restart", "start"]]
    (out,) = control.events("worker_left_out")
    assert out.message == "rollout-1 died while it started, and is started again: its process ended"
    house.rollout[1].script["start"] = [gone, gone]
    with pytest.raises(RoleDied, match="its process ended"):
        await start_roles(make_recipe(), house, control)


async def test_a_role_that_hangs_at_the_start_ends_the_run() -> None:
    house = make_house()
    house.learner.script["start"] = [asyncio.Event()]
    recipe = make_recipe({"run.deadlines.start_seconds": 0.02})
    with pytest.raises(RunFailed, match=r"not every worker was ready within 0\.02 s \(run\.deadlines\.start_seconds\)"):
        await start_roles(recipe, house, FakeControl())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EngineRefused("log-prob differs by 0.2 nats"), r"^rollout: rollout-1 did not start: log-prob differs by 0\.2"),
        (RunFailed(role="rollout", cause="its process ended"), "^rollout: its process ended$"),
    ],
)
async def test_a_role_that_fails_at_the_start_is_the_cause(error: Exception, told: str) -> None:
    house = make_house()
    house.rollout[1].script["start"] = [error]
    house.learner.script["start"] = [asyncio.Event()]
    with pytest.raises(RunFailed, match=told):
        await start_roles(make_recipe(), house, FakeControl())


async def test_a_users_mistake_found_by_a_role_stays_one() -> None:
    house = make_house()
    house.rollout[0].script["start"] = [DataError("model.path must hold a model")]
    with pytest.raises(DataError):
        await start_roles(make_recipe(), house, FakeControl())


async def test_a_session_starts_trains_and_exports_in_this_order() -> None:
    recipe, house, control = make_recipe({"run.steps": 2}), make_house(), FakeControl()
    prompts = Prompts(renderer=make_renderer(), factory=make_factory(), evaluation=make_evaluation(3).evaluator.sets)
    await run_session(recipe, prompts, house, control, NO_DISK, api_address="http://127.0.0.1:1", export_to="out")
    assert house.learner.exported_to == "out"
    assert [each for each in house.learner.calls if each != "ping"] == [
        "start",
        *["step", "weight_layout", "open_channel", "connect_weights", "send_weights", "score_canary"],
        *["step", "send_weights", "score_canary"],
        "export",
    ]
    kinds = [getattr(each, "kind", type(each).__name__) for each in control.reports]
    assert kinds == [
        "starting",
        "workers_starting",
        *["worker_started"] * 4,
        "started",
        "EvaluationReport",
        "StepReport",
        "EvaluationReport",
        "StepReport",
        # What was done since the last look, for totals that are told to the end.
        "BufferReport",
    ]
    assert "http://127.0.0.1:1" in control.events("starting")[0].message


async def test_an_export_that_hangs_ends_the_run() -> None:
    recipe, house = make_recipe({"run.steps": 1, "run.deadlines.step_seconds": 0.5}), make_house()
    house.learner.script["export"] = [asyncio.Event()]
    prompts = Prompts(renderer=make_renderer(), factory=make_factory(), evaluation=())
    with pytest.raises(RunFailed, match=r"learner: export of the policy took longer than 0\.5 s"):
        await run_session(recipe, prompts, house, FakeControl(), NO_DISK, api_address="", export_to="out")


async def test_a_report_reaches_every_listener_and_then_the_control_plane() -> None:
    order: list[tuple[str, RunReport]] = []

    class Listener:
        def show(self, report: RunReport) -> None:
            order.append(("listener", report))

    control = FakeControl(on_report=lambda report: order.append(("control", report)))
    broadcast = Broadcast(control, [Listener(), Listener()])
    report = make_step()
    await broadcast.report(report)
    assert order == [("listener", report), ("listener", report), ("control", report)]
    assert await broadcast.intent_after(0) == control.intent
    assert make_event("x") not in control.reports


def test_a_run_is_described_by_what_was_asked_for() -> None:
    recipe = make_recipe({"model.path": "/models/tiny", "shaping.shapers": ["uniform", "less"], "seed": 4})
    told = describe_run(recipe, run_id="run_1", run_dir="runs/small")
    assert (told.name, told.model, told.algorithm, told.shaping) == ("small", "models/tiny", "grpo", "uniform+less")
    assert (told.seed, told.total_steps, told.recipe_hash) == (4, 3, recipe.content_hash)
    assert told.recipe == recipe.as_dict()
    assert describe_run(make_recipe({"shaping.shapers": []}), run_id="r", run_dir="d").shaping == "none"


def test_the_orchestrator_gets_what_the_recipe_says() -> None:
    recipe = make_recipe(
        {
            "seed": 9,
            "run.group_attempts": 5,
            "run.deadlines": {"group_seconds": 3, "step_seconds": 4},
        }
    )
    config = orchestrator_config(recipe)
    assert (config.seed, config.pool.attempts) == (9, 5)
    assert (config.pool.call_seconds, config.step_seconds) == (3.0, 4.0)
    assert config.learner == recipe.learner
    assert (config.buffer.groups_per_step, config.buffer.num_steps, config.buffer.max_attempts_per_step) == (4, 3, 16)
