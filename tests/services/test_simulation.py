"""Simulated runs: seconds as counted by hand, bounds kept, recorded runs found again."""

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import yaml
from recipe_builders import make_raw, make_recipe, write_recipe

from services.cli import main
from services.ledger import TRAINED, LedgerLine
from services.recipe import Recipe
from services.simulation.command import parse_workers
from services.simulation.recorded import recorded_times, spread_of
from services.simulation.roles import LAYOUT, SimulatedRollout, SimulatedStore
from services.simulation.service_times import Distribution, Draws, Recorded, ResponseLengths, ServiceTimes
from services.simulation.simulate import simulate
from services.virtual_time import run_virtual, virtual_clock
from shaping.errors import DataError, RecipeError, RecordError, UserError
from shaping.records import GroupRequest, Message, Prompt, Sampling
from shaping.training import WeightChannel, WeightManifest


def constant(mean: float) -> Distribution:
    return Distribution(kind="constant", mean=mean)


def make_times(**changes: Any) -> ServiceTimes:
    """Responses of 10 tokens at 0.5 s, prompts of 6, 1 s to shape, 0.1 s to train a token, 2 s + 1 s to sync."""
    times = ServiceTimes(
        response_tokens=constant(10),
        prompt_tokens=6,
        decode_token_s=0.5,
        shaping_s=constant(1),
        train_token_s=constant(0.1),
        transfer_s=constant(2),
        commit_s=constant(1),
        keep_share=1.0,
    )
    return replace(times, **changes)


def simulated_recipe(**changes: Any) -> Recipe:
    """4 groups of 2 a step, engines that decode 4 groups at a time, 12 steps."""
    base = {"run.steps": 12, "rollout.engine.max_num_seqs": 8, "rollout.sampling.max_response_tokens": 64}
    return make_recipe(base | changes)


def test_a_synchronous_step_is_the_sum_of_its_parts() -> None:
    run = simulate(simulated_recipe(), make_times(), num_workers=1)
    # Decode 10 x 0.5; shape 4 x 1, one after another; train 4 x 2 x 16 tokens x 0.1; transfer 2 and commit 1.
    assert run.step_s == pytest.approx(5 + 4 + 12.8 + 3)
    assert (run.train_s, run.sync_s) == (pytest.approx(12.8), pytest.approx(3))
    assert (run.generation_s, run.shaping_s) == (pytest.approx(5), pytest.approx(4))
    assert run.learner_idle_share == pytest.approx(9 / 24.8)
    assert run.rollout_idle_share == pytest.approx(1 - 5 / 24.8)
    assert run.efficiency == pytest.approx((12.8 + 3) / 24.8)
    assert (run.staleness, run.num_groups, run.num_steps, run.failure) == ((48,), 48, 12, "")
    assert run.groups_per_s == pytest.approx(4 / 24.8)
    assert run.tokens_per_s == pytest.approx(4 * 2 * 10 / 24.8)


def test_with_staleness_one_a_slow_learner_never_waits() -> None:
    run = simulate(simulated_recipe(**{"run.max_staleness": 1}), make_times(), num_workers=1)
    # The next batch is decoded and shaped in 9 s (and 1 s of pause) while this one is trained for 12.8 s.
    assert run.step_s == pytest.approx(12.8 + 3)
    assert run.efficiency == pytest.approx(1)
    assert run.learner_idle_share == pytest.approx(0)
    # The first batch of 4 is fresh, every later one was begun a version before its own.
    assert run.staleness == (4, 44)
    assert (run.bottleneck, run.advice) == ("learner", "raise learner.num_ranks")


def test_more_engines_help_until_they_have_no_groups_to_decode() -> None:
    # One group at a time and engine, 4 groups a step: 20 s on one engine, 10 on two, 5 on four.
    recipe = simulated_recipe(**{"rollout.engine.max_num_seqs": 2})
    times = make_times(shaping_s=constant(0), train_token_s=constant(1e-6))
    runs = {number: simulate(recipe, times, num_workers=number) for number in (1, 2, 4, 8)}
    assert [run.step_s - 3 for run in runs.values()] == pytest.approx([20, 10, 5, 5], abs=1e-3)
    assert runs[2].advice == "raise rollout.num_workers"
    assert runs[8].advice.startswith("raise rollout.groups_per_step or run.max_staleness")
    assert runs[8].rollout_idle_share == pytest.approx(1 - 4 * 5 / (8 * 8), abs=1e-3)


def test_a_slow_side_is_named_with_what_enlarges_it() -> None:
    recipe = simulated_recipe(**{"run.max_staleness": 2, "rollout.engine.max_num_seqs": 2})
    engines = simulate(recipe, make_times(train_token_s=constant(0.001), shaping_s=constant(0)), num_workers=1)
    assert (engines.bottleneck, engines.advice) == ("rollout", "raise rollout.num_workers")
    shaping = simulate(recipe, make_times(shaping_s=constant(30)), num_workers=4)
    assert (shaping.bottleneck, shaping.advice) == ("shaping", "raise cluster.num_shaping_workers")


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
@pytest.mark.parametrize("num_workers", [1, 7])
def test_random_times_keep_the_bound_and_repeat_themselves(max_staleness: int, num_workers: int) -> None:
    recipe = simulated_recipe(**{"run.max_staleness": max_staleness, "run.steps": 30, "run.max_attempts_per_step": 8})
    times = make_times(
        response_tokens=Distribution(kind="lognormal", mean=10, spread=0.8),
        shaping_s=Distribution(kind="exponential", mean=0.2),
        train_token_s=Distribution(kind="uniform", mean=0.1),
        keep_share=0.6,
    )
    run = simulate(recipe, times, num_workers=num_workers)
    assert run.staleness_max <= max_staleness
    assert sum(run.staleness) == 4 * 30
    # 120 kept of about 200: within 4 standard deviations.
    assert abs(run.keep_share - 0.6) <= 4 * math.sqrt(0.24 / 150)
    again = simulate(recipe, times, num_workers=num_workers)
    assert replace(again, cpu_us_per_group=0.0) == replace(run, cpu_us_per_group=0.0)


def test_a_deadline_of_the_recipe_that_would_be_missed_is_said() -> None:
    recipe = simulated_recipe(**{"run.deadlines.step_seconds": 10})
    run = simulate(recipe, make_times(), num_workers=1)
    assert "step 1 took longer than 10 s (run.deadlines.step_seconds)" in run.failure
    assert run.num_steps == 0


def make_request() -> GroupRequest:
    return GroupRequest(
        group_id="g",
        prompt=Prompt(prompt_id="p", messages=(Message(role="user", content="?"),), reference_answer="1", position=0),
        prompt_ids=np.zeros(1, np.int32),
        hint_ids=np.zeros(0, np.int32),
        round_index=0,
        num_rollouts=2,
        sampling=Sampling(),
        seed=0,
    )


def make_engine() -> SimulatedRollout:
    """One group of 20 tokens at 0.5 s at a time; a commit takes 2 s."""
    lengths = ResponseLengths(constant(20), 64)
    return SimulatedRollout("r", num_slots=1, decode_token_s=0.5, lengths=lengths, commit_s=Draws(constant(2), "c"))


def test_an_engine_does_not_decode_while_it_is_paused_and_serves_one_group_a_slot() -> None:
    async def run() -> list[tuple[float, int, int, float]]:
        engine, ended = make_engine(), list[tuple[float, int, int, float]]()
        await engine.connect_weights(WeightChannel(backend="memory", address="", port=0, world_size=2, first_rank=1))

        async def generate() -> None:
            summary = (await engine.generate(make_request())).summary
            ended.append(
                (virtual_clock(), summary.min_policy_version, summary.max_policy_version, summary.generation_s)
            )

        groups = [asyncio.ensure_future(generate()) for _ in range(2)]
        await asyncio.sleep(3)
        await engine.stage_weights(LAYOUT, 1)
        await engine.commit_weights(WeightManifest(policy_version=1, layout=LAYOUT, checksums=("0",)))
        await asyncio.gather(*groups)
        return ended

    # 10 s to decode, 2 s of pause in the first group; the second begins when the first has ended.
    assert run_virtual(run()) == [(12.0, 0, 1, 12.0), (22.0, 1, 1, 10.0)]


def test_roles_refuse_what_real_ones_would_refuse() -> None:
    async def commit_unstaged() -> None:
        await make_engine().commit_weights(WeightManifest(policy_version=1, layout=LAYOUT, checksums=("0",)))

    with pytest.raises(RecordError, match="version 1 must be staged, found None"):
        run_virtual(commit_unstaged())
    store = SimulatedStore()
    ended = LedgerLine(ordinal=0, group_id="g", prompt_id="p", visit=1, outcome=TRAINED, step=1)
    store.write_ledger(ended)
    with pytest.raises(RecordError, match="a group must end once"):
        store.write_ledger(ended)


def write_run(folder: Path, steps: int, **changes: Any) -> None:
    """Files of a synchronous run: 9 s of waiting, 12.8 s of training 128 tokens, 3 s of sync a step."""
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(
            make_raw({"rollout.engine.max_num_seqs": 8, "rollout.sampling.max_response_tokens": 64} | changes)
        )
    )
    lines = [
        {
            "kind": "step",
            "phase_seconds": {"wait_batch": 9.0, "train": 12.8, "weight_sync": 3.0},
            "groups": {"trained": 4, "dropped_no_signal": 1},
            "metrics": {"rollout_response_tokens": 10.0, "rollout_response_max_tokens": 20, "learner_tokens": 128.0},
        }
        for _ in range(steps)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, [{"kind": "event"}, *lines])))


def test_a_recorded_run_is_found_again(tmp_path: Path) -> None:
    write_run(tmp_path, 20)
    times = recorded_times(tmp_path)
    # 128 tokens of 4 groups of 2 responses: 16 a sample, 10 of them the response's.
    assert times.prompt_tokens == 6
    assert times.keep_share == pytest.approx(0.8)
    assert times.train_token_s == Recorded((0.1,) * 19)
    run = simulate(simulated_recipe(**{"run.steps": 60}), times, num_workers=1)
    assert run.sync_s == pytest.approx(3.0)
    # Lengths are drawn with a spread of 0.7, a standard deviation of 8 tokens: the mean of 59 x 8 samples is within
    # 4 x 8 / sqrt(472) tokens, 0.1 s each and 8 a step.
    assert run.train_s == pytest.approx(12.8, abs=0.8 * 4 * 8 / math.sqrt(472))
    assert run.step_s - run.train_s - run.sync_s == pytest.approx(9.0, rel=0.15)


def test_runs_that_say_nothing_of_service_times_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, 2)
    with pytest.raises(DataError, match=r"service times need 2 trained steps after the first, .* found 1"):
        recorded_times(tmp_path)
    write_run(tmp_path, 9, **{"run.max_staleness": 1})
    with pytest.raises(RecipeError, match=r"read from a run with run.max_staleness 0, found 1"):
        recorded_times(tmp_path)


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_the_spread_is_that_whose_typical_longest_is_the_recorded_one(spread: float) -> None:
    z = NormalDist().inv_cdf(1 - 1 / 129)
    assert spread_of(math.exp(spread * z - spread**2 / 2), 128) == pytest.approx(spread)
    assert spread_of(1.0, 128) == 0.0


def test_distributions_have_their_mean() -> None:
    for kind, spread in (("constant", 0.0), ("uniform", 0.0), ("exponential", 0.0), ("lognormal", 0.7)):
        draws = Draws(Distribution(kind=kind, mean=3.0, spread=spread), "test")  # type: ignore[arg-type]
        values = [draws.at(number) for number in range(1 << 14)]
        # The widest has a standard deviation of 3: 4 standard errors of 16,384 draws are 0.09.
        assert sum(values) / len(values) == pytest.approx(3.0, abs=0.1)
        assert draws.at(5) == draws.at(5 + (1 << 14))


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(tmp_path))
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["simulate", recipe, "--workers", "1,2", "--steps", "3", *extra])
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        if extra:
            found = json.loads(printed)
            assert [run["num_workers"] for run in found["runs"]] == [1, 2]
            assert found["runs"][0]["num_steps"] == 3
        else:
            assert "1 workers: " in printed
            assert "assumed service times" in printed


@pytest.mark.parametrize("text", ["", "0", "1,x", "-1"])
def test_workers_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--workers must be numbers >= 1"):
        parse_workers(text)
