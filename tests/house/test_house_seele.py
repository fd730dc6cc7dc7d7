"""SEELE in one process, with real sampler, shaping and learner over a policy of a few thousand parameters."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_evaluations import FakeBook
from fake_roles import FakeControl
from fake_store import FakeStore
from safetensors.torch import load_file
from toy_policy import make_toy_recipe, toy_changes, write_toy_policy

from rollout.engine import EngineInfo
from services.local import LocalHouse, LocalRollout, LocalShaping
from services.plan import make_plan
from services.ports import RoundHandle, ShapedHandle
from services.session import Disk, read_prompts, run_session
from shaping.errors import RoleDied
from shaping.records import GroupRequest, TokenSource
from shaping.training import TrainingSample

CHANGES: dict[str, Any] = {
    "rollout.plan": "seele",
    "shaping.estimator": "dr_grpo",
    "learner.regularisers": ["hint_nll"],
    "learner.kl": {"coefficient": 0.001},
    "run.steps": 3,
}
ROUNDS, ROUND_SIZE = 4, 2


@dataclass
class Seen:
    """What went through the ports of a run."""

    requests: list[GroupRequest] = field(default_factory=list)
    shaped: list[tuple[tuple[RoundHandle, ...], ShapedHandle]] = field(default_factory=list)


class WatchedRollout:
    """RolloutPort that notes its requests, loses one of them, and holds one until the weights have changed."""

    def __init__(self, port: LocalRollout, seen: Seen, *, loses: tuple[str, int] | None, holds: tuple[str, int] | None):
        self._port, self._seen, self._loses, self._holds = port, seen, loses, holds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def start(self) -> EngineInfo:
        return await self._port.start()

    async def generate(self, request: GroupRequest) -> RoundHandle:
        self._seen.requests.append(request)
        here = (request.group_id, request.round_index)
        if here == self._holds:
            self._holds = None
            while not await self._port.ping():
                await asyncio.sleep(0.001)
        handle = await self._port.generate(request)
        if here == self._loses:
            self._loses = None
            raise RoleDied(role="rollout", cause="its process ended")
        return handle


class WatchedShaping:
    """ShapingPort that notes what it shaped."""

    def __init__(self, port: LocalShaping, seen: Seen) -> None:
        self._port, self._seen = port, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        shaped = await self._port.shape(rounds)
        self._seen.shaped.append((rounds, shaped))
        return shaped


@dataclass
class Ended:
    control: FakeControl
    store: FakeStore
    seen: Seen
    policy: Path


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order: rounding, and with it every sampled token, must not depend on the machine's load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(
    policy: Path,
    folder: Path,
    changes: dict[str, Any] | None = None,
    *,
    name: str = "out",
    loses: tuple[str, int] | None = None,
    holds: tuple[str, int] | None = None,
) -> Ended:
    recipe = make_toy_recipe(policy, folder, {**CHANGES, **(changes or {})})
    make_plan(recipe)
    control, store, seen = FakeControl(), FakeStore(), Seen()

    async def run() -> None:
        house = LocalHouse(recipe)
        watched: Any = house
        watched.rollout = tuple(WatchedRollout(each, seen, loses=loses, holds=holds) for each in house.rollout)
        watched.shaping = tuple(WatchedShaping(each, seen) for each in house.shaping)
        try:
            disk = Disk(store=store, book=FakeBook(), checkpoint=None)
            prompts = read_prompts(recipe)
            out = str(folder / name)
            await run_session(recipe, prompts, watched, control, disk, api_address="none", export_to=out)
        finally:
            await house.close()

    asyncio.run(run())
    return Ended(control=control, store=store, seen=seen, policy=folder / name)


def samples_of(handle: ShapedHandle) -> tuple[TrainingSample, ...]:
    assert isinstance(handle.ref, tuple)
    return handle.ref


def told(ended: Ended) -> list[dict[str, float]]:
    """All that steps report but times."""
    return [
        {name: value for name, value in each.metrics.items() if not name.endswith("_s")} for each in ended.control.steps
    ]


def test_hints_open_rounds_are_never_trained_by_the_loss_and_never_evaluated(policy: Path, tmp_path: Path) -> None:
    held_out = toy_changes(policy, tmp_path)["data.train"]
    ended = train(
        policy,
        tmp_path,
        {"data.evaluation": held_out, "evaluation": {"every_steps": 1, "num_problems": 3}, "run.steps": 2},
    )
    asked = {(each.group_id, each.round_index): each for each in ended.seen.requests}
    trained = {line.group_id: line for line in ended.store.ledger}
    evaluated = [each for each in ended.seen.requests if each.group_id.startswith("held_out")]
    assert len(evaluated) == 3 * 3, "before the first step and after both"
    assert all(len(each.hint_ids) == 0 for each in evaluated)

    for rounds, shaped in ended.seen.shaped:
        line = trained[shaped.summary.group_id]
        assert [each.scored for each in line.rounds] == [ROUND_SIZE] * ROUNDS
        hints = [len(asked[line.group_id, index].hint_ids) for index in range(len(rounds))]
        assert hints == [each.hint_tokens for each in line.rounds]
        # The task has 3 steps of a token each, and the first round of a first visit shows 2.
        assert (line.rounds[0].rate == 2 / 3 and hints[0] == 2) or line.visit > 1
        for sample in samples_of(shaped):
            is_hint = sample.token_sources == TokenSource.HINT
            assert is_hint.sum() == hints[sample.rollout_index // ROUND_SIZE]
            assert not sample.loss_mask[is_hint].any() and not sample.advantages[is_hint].any()
            assert sample.loss_mask[sample.token_sources == TokenSource.GENERATED].all()
    for step in ended.control.steps:
        assert step.metrics["hint_rate_mean"] > 0 and step.metrics["learner_hint_nll_nats"] > 0
        assert {f"hint_round_{number}_accuracy" for number in range(1, ROUNDS + 1)} <= step.metrics.keys()


def test_the_advantages_of_a_group_are_pooled_over_its_rounds(policy: Path, tmp_path: Path) -> None:
    ended = train(policy, tmp_path, {"run.steps": 1, "shaping.shapers": []})
    groups = [samples_of(shaped) for _, shaped in ended.seen.shaped if shaped.summary.drop is None]
    assert groups
    for samples in groups:
        values = [sample.advantages[sample.token_sources == TokenSource.GENERATED][0] for sample in samples]
        # Reward minus the mean of all 8: two values, 1 apart, and together nothing.
        assert len(samples) == ROUNDS * ROUND_SIZE
        assert sum(values) == pytest.approx(0.0, abs=1e-6)
        assert max(values) - min(values) in (0.0, pytest.approx(1.0))


@pytest.mark.parametrize("number", [0, 2])
def test_a_round_that_is_lost_changes_nothing_but_time(policy: Path, tmp_path: Path, number: int) -> None:
    straight = train(policy, tmp_path, name="straight")
    struck = train(policy, tmp_path, name="struck", loses=("g00000005", number))
    assert len(struck.control.events("worker_left_out")) == 1
    lost = [each for each in struck.seen.requests if (each.group_id, each.round_index) == ("g00000005", number)]
    assert len(lost) == 2 and lost[0].seed == lost[1].seed and lost[0].hint_ids.tolist() == lost[1].hint_ids.tolist()
    assert told(struck) == told(straight)
    assert [each.num_response_tokens for each in struck.control.steps] == [
        each.num_response_tokens for each in straight.control.steps
    ]
    assert sorted(struck.store.ledger, key=lambda each: each.ordinal) == sorted(
        straight.store.ledger, key=lambda each: each.ordinal
    )
    weights = [load_file(each.policy / "model.safetensors") for each in (struck, straight)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_under_staleness_a_group_has_the_rounds_of_one_version(policy: Path, tmp_path: Path) -> None:
    # A group of the second step, admitted under version 0, stands before its third round until version 1 is served.
    held = ("g00000004", 2)
    ended = train(policy, tmp_path, {"run.max_staleness": 1, "run.steps": 4}, holds=held)
    versions = [
        {(each.summary.min_policy_version, each.summary.max_policy_version) for each in rounds}
        for rounds, _ in ended.seen.shaped
    ]
    assert all(len(each) == 1 for each in versions)
    assert all(oldest == newest for each in versions for oldest, newest in each)
    counts = {
        ending: sum(each.metrics[f"hint_{ending}_groups_count"] for each in ended.control.steps)
        for ending in ("closed_early", "begun_again")
    }
    assert sum(counts.values()) >= 1
    closed = [line.group_id for line in ended.store.ledger if len(line.rounds) < ROUNDS]
    asked = [(each.group_id, each.round_index) for each in ended.seen.requests]
    assert len(closed) == counts["closed_early"]
    assert held[0] in closed or asked.count((held[0], 0)) > 1
    assert all(0.0 <= each.metrics["learner_staleness_versions"] <= 1.0 for each in ended.control.steps)
