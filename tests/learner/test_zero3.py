"""The real ZeRO-3 learner, on one rank and on two, against plain torch on the same batches."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_builders import write_tiny_policy
from safetensors.torch import load_file
from zero3_cases import CASES, RecordingTorchEngine, cases_of, run_case

from learner.deepspeed_env import worker_environment

pytestmark = pytest.mark.stack

REPOSITORY = Path(__file__).parents[2]
SUPPORT = REPOSITORY / "tests" / "support"
NUM_RANKS = (1, 2)
RUNS = [(num_ranks, name) for num_ranks in NUM_RANKS for name in cases_of(num_ranks)]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Where the policies and the results of both groups lie."""

    policies: Path
    out: dict[int, Path]

    def found(self, num_ranks: int, name: str) -> dict[str, Any]:
        return torch.load(self.out[num_ranks] / f"{name}.pt", weights_only=True)

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """What the group of two exported."""
        return load_file(self.out[2] / name / "model.safetensors")


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def start_group(num_ranks: int, policies: Path, out: Path) -> list[subprocess.Popen[bytes]]:
    out.mkdir()
    port = free_port()
    processes = []
    for rank in range(num_ranks):
        environment = worker_environment(rank=rank, num_ranks=num_ranks, address="127.0.0.1", port=port, device="cpu")
        arguments = [str(SUPPORT / "zero3_worker.py"), str(rank), str(num_ranks), str(port), str(policies), str(out)]
        with (out / f"rank_{rank}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *arguments],
                    env={**os.environ, **environment, "PYTHONPATH": f"{REPOSITORY}:{SUPPORT}", "HF_HUB_OFFLINE": "1"},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Groups]:
    """Both groups, run to their end beside each other: starting one costs more than all that it then does."""
    folder = tmp_path_factory.mktemp("zero3")
    policies = folder / "policies"
    for name, tied in (("tied", True), ("untied", False)):
        write_tiny_policy(policies / name, tied=tied)
    out = {num_ranks: folder / f"ranks_{num_ranks}" for num_ranks in NUM_RANKS}
    processes = {num_ranks: start_group(num_ranks, policies, out[num_ranks]) for num_ranks in NUM_RANKS}
    try:
        for num_ranks, members in processes.items():
            for rank, process in enumerate(members):
                code = process.wait(timeout=400)
                log = (out[num_ranks] / f"rank_{rank}.log").read_text()
                assert code == 0, f"rank {rank} of {num_ranks} ended with {code}:\n{log[-4000:]}"
        yield Groups(policies=policies, out=out)
    finally:
        for process in (each for members in processes.values() for each in members):
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture(scope="module")
def plain(groups: Groups) -> dict[str, dict[str, Any]]:
    """Every case on plain torch: one rank, one padded micro-batch."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        options = {**case.options, "layout": "padded", "micro_batch_tokens": 10_000}
        config = type(case)(options=options).config("torch", 1)
        path = str(groups.policies / case.policy)
        engine = RecordingTorchEngine(config, model_path=path, seed=0)
        result = run_case(case, engine, config, path, 0)
        with engine.gathered(tuple(engine.gradients)) as tensors:
            weights = dict(zip(engine.gradients, (each.clone() for each in tensors), strict=True))
        ratios = result.histograms["learner_importance_ratio"]
        numbers = {"metrics": result.metrics, "ratios": (ratios.count, ratios.total)}
        found[name] = {"gradients": engine.gradients, "weights": weights, **numbers}
    return found


@pytest.mark.parametrize(("num_ranks", "name"), RUNS)
def test_gradients_equal_those_of_plain_torch(
    name: str, num_ranks: int, groups: Groups, plain: dict[str, dict[str, Any]]
) -> None:
    expected, found = plain[name]["gradients"], groups.found(num_ranks, name)["gradients"]
    assert found.keys() == expected.keys()
    assert max(float(each.abs().max()) for each in expected.values()) > 1e-2
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("num_ranks", "name"), RUNS)
def test_an_update_equals_that_of_plain_torch(
    name: str, num_ranks: int, groups: Groups, plain: dict[str, dict[str, Any]]
) -> None:
    # Adam's first step moves by learning rate x sign(gradient), 1e-3: rounding shows only where a gradient is near
    # epsilon. An optimizer that had counted a step before this one would move everything by 26 % less.
    expected, found = plain[name]["weights"], groups.found(num_ranks, name)["weights"]
    for parameter, weight in expected.items():
        torch.testing.assert_close(found[parameter], weight, atol=5e-5, rtol=0)


@pytest.mark.parametrize(("num_ranks", "name"), RUNS)
def test_metrics_equal_those_of_plain_torch(
    name: str, num_ranks: int, groups: Groups, plain: dict[str, dict[str, Any]]
) -> None:
    expected, found = plain[name]["metrics"], groups.found(num_ranks, name)["metrics"]
    assert found.keys() == expected.keys()
    of_layout = {"learner_padding_share", "learner_padding_tokens", "learner_rank_imbalance_share"}
    for metric, value in expected.items():
        if not metric.endswith("_s") and metric not in of_layout:
            assert found[metric] == pytest.approx(value, rel=1e-4, abs=1e-5), metric


@pytest.mark.parametrize(("num_ranks", "name"), RUNS)
def test_distributions_hold_the_tokens_of_all_ranks(
    name: str, num_ranks: int, groups: Groups, plain: dict[str, dict[str, Any]]
) -> None:
    (count, total), found = plain[name]["ratios"], groups.found(num_ranks, name)["ratios"]
    assert count > 0
    assert found == (count, pytest.approx(total, rel=1e-4))


def test_the_reference_model_is_compared_with(plain: dict[str, dict[str, Any]]) -> None:
    assert plain["reference"]["metrics"]["learner_kl_nats"] > 1e-3


def test_two_runs_of_one_seed_give_the_same_bits(groups: Groups) -> None:
    first, second = groups.weights("first"), groups.weights("second")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_group_goes_on_bit_for_bit(groups: Groups) -> None:
    whole, resumed = groups.weights("first"), groups.weights("resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = load_file(groups.policies / "tied" / "model.safetensors")
    assert not any(torch.equal(whole[name], start[name]) for name in whole)


def test_a_receiver_that_leaves_breaks_the_channel_and_not_the_group_of_ranks(groups: Groups) -> None:
    """What follows it, over a new channel, is the next test."""
    assert "of version 1 was not received" in groups.found(2, "broken_transfer")


def test_weights_sent_over_gloo_are_the_exported_ones(groups: Groups) -> None:
    found = groups.found(2, "sent")
    assert found["same"]
    assert found["num_buckets"] > 1


@pytest.mark.parametrize("name", ["plain", "offloaded", "bfloat16"])
def test_all_ranks_skip_a_step_that_is_not_finite_on_one(name: str, groups: Groups) -> None:
    ranks = [groups.found(2, f"skipped_{name}_{rank}") for rank in range(2)]
    assert sorted(each["holds_it"] for each in ranks) == [False, True]
    for found in ranks:
        assert found["skipped"] == "the loss is nan in step 1, update 1 of 1 (rollouts g/5)"
        assert found["metrics"] == {}
    # The weights of the skip are those before it, and those of the next step are as if it had never been.
    for first, second in (("before_skip", "after_skip"), ("spared", "end")):
        weights, others = groups.weights(f"{name}_{first}"), groups.weights(f"{name}_{second}")
        assert all(torch.equal(weights[each], others[each]) for each in weights)
    assert not torch.equal(weights["model.norm.weight"], groups.weights(f"{name}_after_skip")["model.norm.weight"])


def test_bfloat16_adapters_move_their_targets_and_nothing_else(groups: Groups) -> None:
    weights = groups.weights("bfloat16_lora")
    start = load_file(groups.policies / "tied" / "model.safetensors")
    moved = {name for name in weights if not torch.equal(weights[name], start[name].bfloat16())}
    assert moved == {name for name in start if name.endswith("_proj.weight")}


def test_bfloat16_weights_keep_a_float32_master(groups: Groups) -> None:
    weights = groups.weights("bfloat16")
    assert all(weight.dtype == torch.bfloat16 for weight in weights.values())
    start = load_file(groups.policies / "tied" / "model.safetensors")
    moved = [float((weights[name].float() - start[name]).abs().mean()) for name in weights]
    assert min(moved) > 0
