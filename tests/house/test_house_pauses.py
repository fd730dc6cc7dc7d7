"""Paused and resumed at random moments, with real sampler and learner in one process: nothing is lost or trained twice,
and in synchronous mode the run is the straight one bit for bit.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger_law import check_ledger
from paused_run import RandomPauses, run_house
from recipe_builders import make_raw, write_recipe
from safetensors.torch import load_file
from stack_run import read_lines
from toy_policy import toy_changes, write_toy_policy

from services.checkpoints.store import CheckpointStore
from services.recipe import load_recipe
from services.reports import PauseMode

pytestmark = pytest.mark.stack

STEPS, GROUPS = 60, 4
PAUSED = Path(__file__).parents[1] / "support" / "paused_run.py"
CHANGES = {
    "rollout.num_workers": 2,
    "rollout.groups_per_step": GROUPS,
    # Both learn from how groups end: what they are told, and in which order, decides what comes next.
    "rollout.selector": "success_band",
    "shaping.drop_without_signal": True,
    "learner.mini_batch_groups": 2,
    "learner.optimizer": {"learning_rate": 1e-3},
    "run.steps": STEPS,
    "run.checkpoint": {"every_steps": 20, "keep_last": 100},
    "run.dump_groups_per_step": GROUPS,
}
NOT_OF_THE_STEP = ("_s", "weight_sync_canary_difference_nats")
"""Durations; and a frozen engine samples no canary."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterable[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(folder: Path, **changes: Any) -> Path:
    policy = write_toy_policy(folder / "toy")
    wanted = {**CHANGES, **{key.replace("__", "."): value for key, value in changes.items()}}
    return write_recipe(folder, make_raw(toy_changes(policy, folder, wanted)))


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def straight(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody pauses."""
    run_dir = tmp_path_factory.mktemp("straight") / "out"
    torch.set_num_threads(1)
    asyncio.run(run_house(load_recipe(recipe_file), run_dir))
    return run_dir


def steps_of(run_dir: Path) -> list[dict[str, Any]]:
    return [
        {
            "step": each["step"],
            "groups": each["groups"],
            "metrics": {
                name: pytest.approx(value, rel=1e-12) if name not in ("learner_loss",) else value
                for name, value in each["metrics"].items()
                if not name.endswith(NOT_OF_THE_STEP)
            },
        }
        for each in read_lines(run_dir / "metrics.jsonl")
        if each["kind"] == "step"
    ]


def assert_same(run_dir: Path, straight: Path) -> None:
    policy, expected = (load_file(each / "policy" / "model.safetensors") for each in (run_dir, straight))
    assert all(torch.equal(policy[name], expected[name]) for name in expected), "the same parameters, bit for bit"
    assert steps_of(run_dir) == steps_of(straight)
    for name in ("ledger.jsonl", "groups.jsonl"):
        assert sorted((run_dir / name).read_text().splitlines()) == sorted((straight / name).read_text().splitlines())


async def test_a_hundred_pauses_of_every_mode_leave_a_synchronous_run_as_it_was(
    recipe_file: Path, straight: Path, tmp_path: Path
) -> None:
    pauses = RandomPauses(seed=1, number=125)
    control = await run_house(load_recipe(recipe_file), tmp_path / "out", pauses)
    assert pauses.problems == []
    assert len(control.events("paused")) >= 100, pauses.seconds
    assert {mode for mode, _ in pauses.seconds} == set(PauseMode) and pauses.num_withdrawn > 5
    assert control.events("pause_failed") == [] and control.events("worker_left_out") == []
    assert_same(tmp_path / "out", straight)
    check_ledger(tmp_path / "out", num_steps=STEPS, groups_per_step=GROUPS)


async def test_a_hundred_pauses_lose_and_repeat_nothing_of_an_asynchronous_run(tmp_path: Path) -> None:
    # Barely taught: a policy that knows the answer gives no group with a signal.
    barely = {"learner__optimizer": {"learning_rate": 1e-6}, "run__steps": 2 * STEPS}
    recipe = load_recipe(make(tmp_path, run__max_staleness=2, run__at_attempt_cap="wait", **barely))
    pauses = RandomPauses(seed=2, number=125, longest=6)
    control = await run_house(recipe, tmp_path / "out", pauses)
    assert pauses.problems == []
    assert len(control.events("paused")) >= 100
    check_ledger(tmp_path / "out", num_steps=2 * STEPS, groups_per_step=GROUPS)


@pytest.mark.parametrize(("mode", "moment"), [("drain", 200), ("abort", 205), ("abort", 431), ("freeze", 330)])
async def test_a_run_killed_while_it_is_paused_goes_on_from_that_pause_bit_for_bit(
    recipe_file: Path, straight: Path, tmp_path: Path, mode: str, moment: int
) -> None:
    run_dir = tmp_path / "out"
    command = [sys.executable, str(PAUSED), str(recipe_file), str(run_dir), mode, str(moment)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    name = CheckpointStore(run_dir / "checkpoints").list()[-1].name
    (paused,) = [each for each in read_lines(run_dir / "metrics.jsonl") if "paused" in each.values()]
    assert paused["details"]["checkpoint"] == name
    await run_house(load_recipe(recipe_file), run_dir, checkpoint=name)
    assert_same(run_dir, straight)
    check_ledger(run_dir, num_steps=STEPS, groups_per_step=GROUPS)
