"""The TRL example: what reaches TRL's loss is GRPO's advantage times the LESS multiplier of that very token."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("trl") is None:
    pytest.skip("TRL is not installed", allow_module_level=True)

# Before the example: it keeps TRL from importing vLLM.
from trl_cases import (
    GROUP_SIZE,
    GRPOTrainer,
    LessGRPOTrainer,
    Recording,
    expected_advantages,
    make_trainer,
    trained_rows,
)

from deploy.examples.trl_less import main, shape_rows
from shaping.less import LessOptions

ROOT = Path(__file__).parents[2]
# Shorter than the default, so that responses of 64 tokens share segments.
LESS = {"min_length": 3}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def check_rows(rows: list[dict[str, Any]], weights: dict[str, torch.Tensor]) -> set[float]:
    """Compare the rows of one generation with the independent computation; the absolute advantages that occurred."""
    wanted = expected_advantages([(row["prompt"], row["response"]) for row in rows], weights, LESS)
    for row, advantages in zip(rows, wanted, strict=True):
        length = len(row["response"])
        # TRL subtracts and divides in float32. A multiplier is off by 1/4 or more if it belongs to another token.
        np.testing.assert_allclose(row["advantages"][:length], advantages, rtol=1e-5, atol=1e-6)
        assert not np.any(row["advantages"][length:])
    return {round(float(value), 3) for value in np.abs(np.concatenate(wanted))}


def test_advantages_in_the_loss_are_base_times_multiplier_of_each_token_in_every_generation(tmp_path: Path) -> None:
    trainer = make_trainer(Recording, tmp_path, correctness="is_correct", less=LessOptions(**LESS))
    trainer.train()
    # 4 optimizer steps of 2 losses; one generation feeds 4 losses, so its second half is trained by newer weights.
    assert len(trainer.losses) == 8
    assert len(trainer.policies) == 2
    assert not torch.equal(*(weights["model.norm.weight"] for weights in trainer.policies))
    for generation, weights in enumerate(trainer.policies):
        rows = trained_rows(trainer, generation)
        assert len(rows) == 4 * GROUP_SIZE
        # A loss holds as many rows as a group has; TRL's shuffle put several groups into one.
        assert max(len({tuple(row["prompt"]) for row in rows[i : i + 4]}) for i in range(0, 16, 4)) > 1
        # Correct responses of 1, 2 or 3 in 4 have base advantages 1.5 and 0.5, 0.866, 0.5 and 1.5: zeros, base
        # advantages as they are and parts of them must all have occurred.
        assert len({0.0, *check_rows(rows, weights)}) > 4


@pytest.mark.parametrize("loss_type", ["dapo", "sapo", "vespo"])
def test_multipliers_of_one_leave_grpo_as_it_is_bit_for_bit(tmp_path: Path, loss_type: str) -> None:
    config = {"max_steps": 2, "max_completion_length": 32, "loss_type": loss_type}
    identity = LessOptions(outside="keep", min_length=10_000)
    cases: list[tuple[type[GRPOTrainer], dict[str, Any]]] = [
        (GRPOTrainer, {}),
        (LessGRPOTrainer, {"correctness": "is_correct", "less": identity}),
        (LessGRPOTrainer, {"correctness": "is_correct"}),
    ]
    policies = []
    for kind, options in cases:
        # Made and trained in turn: a trainer seeds the process when it is made.
        trainer = make_trainer(kind, tmp_path, config=config, **options)
        trainer.train()
        policies.append(trainer.model.state_dict())
    plain, same, shaped = policies
    assert all(torch.equal(weight, same[name]) for name, weight in plain.items())
    assert not all(torch.equal(weight, shaped[name]) for name, weight in plain.items())


@pytest.mark.parametrize(
    ("config", "correctness", "message"),
    [
        ({"temperature": 0.7}, "is_correct", "temperature must be 1.0 with LESS, got 0.7"),
        ({"importance_sampling_level": "sequence"}, "is_correct", "importance_sampling_level must be 'token'"),
        ({"top_entropy_quantile": 0.2}, "is_correct", "top_entropy_quantile must be 1.0 with LESS, got 0.2"),
        ({}, "accuracy", r"must name one of reward_funcs \['num_characters', 'is_correct'\], got 'accuracy'"),
    ],
)
def test_what_contradicts_less_is_refused(
    tmp_path: Path, config: dict[str, Any], correctness: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(LessGRPOTrainer, tmp_path, config=config, correctness=correctness)


def test_tokens_that_the_policy_did_not_sample_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_of_a_tool(prompts: list[Any], _: GRPOTrainer) -> dict[str, Any]:
        row = {"prompt_ids": [5], "completion_ids": [6, 7], "logprobs": [0.0, 0.0], "env_mask": [1, 0]}
        return {name: [value] * len(prompts) for name, value in row.items()}

    # TRL warns that rollout functions are experimental.
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = make_trainer(LessGRPOTrainer, tmp_path, correctness="is_correct", rollout_func=answer_of_a_tool)
    with pytest.raises(ValueError, match=r"every token must be text of the policy, got \['tool_mask'\]"):
        trainer.train()


def rows_of(*responses: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows whose last token has high entropy and all others the same low one."""
    return [
        (np.array(ids), np.array([0.1] * (len(ids) - 1) + [2.0], np.float32) if ids else np.zeros(0, np.float32))
        for ids in responses
    ]


def test_row_without_a_verdict_is_not_trained_and_shapes_nobody() -> None:
    # 10 tokens: k = 8, and the 9 equal low entropies include the 9th smallest, so h = 0.1, all are low and none is in a
    # run (a run needs H < h). They get 1/N: N = 1 correct and 1 wrong with the third row left out, else 1/2.
    rows = rows_of(list(range(10)), list(range(20, 30)), list(range(10)), list(range(10)), [], [7])
    options = LessOptions()
    shaped = shape_rows(rows, [1.0, 0.0, np.nan, np.nan, np.nan, np.nan], group_size=3, options=options)
    assert [row.tolist() for row in shaped] == [[1.0] * 10, [1.0] * 10, [0.0] * 10, [0.0] * 10, [], [0.0]]
    shaped = shape_rows(rows[:3], [1.0, 0.0, 1.0], group_size=3, options=options)
    assert [row.tolist() for row in shaped] == [[0.5] * 9 + [1.0], [1.0] * 10, [0.5] * 9 + [1.0]]


def test_verdict_that_is_no_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must give 1, 0 or None, got \[0.5\]"):
        shape_rows(rows_of([1, 2], [1, 2]), [1.0, 0.5], group_size=2, options=LessOptions())


def run_two_processes(out: Path) -> None:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port = each.getsockname()[1]
    worker = ROOT / "tests" / "support" / "trl_worker.py"
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), str(out), json.dumps(LESS)],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.stack
def test_group_split_over_two_processes_is_shaped_as_a_whole(tmp_path: Path) -> None:
    # 6 rows a process: groups of 4 are rows 0-3, 4-7 and 8-11, so the second one lies on both.
    run_two_processes(tmp_path)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    prompts = [{tuple(row["prompt"]) for row in rank["rows"]} for rank in ranks]
    assert len(prompts[0] & prompts[1]) == 1
    assert 0.0 in check_rows(ranks[0]["rows"] + ranks[1]["rows"], ranks[0]["weights"])


@pytest.mark.stack
def test_script_trains_the_quickstart_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["--steps", "1"])
    (log,) = json.loads((tmp_path / "runs/trl_less/checkpoint-1/trainer_state.json").read_text())["log_history"]
    # 128 responses of a policy that is right in 0.36 of them; LESS multiplies most low-entropy tokens down.
    assert 0 < log["rewards/is_correct/mean"] < 1
    assert 0.1 < log["less/multiplier"] < 0.9
