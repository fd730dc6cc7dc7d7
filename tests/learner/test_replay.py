"""A step done again by plain torch in float32: the learner's own figures, and the rollouts that are not finite."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_cases import free_port
from learner_builders import make_batch, make_work

from learner.config import LearnerConfig, LoraConfig, OptimizerConfig
from learner.deepspeed_env import worker_environment
from learner.learner import Learner
from learner.replay import StepReplay, UpdateReplay
from learner.torch_learner import torch_learner
from learner.work import StepWork

REPOSITORY = Path(__file__).parents[2]
SUPPORT = REPOSITORY / "tests" / "support"
LORA = LoraConfig(rank=4, alpha=8.0)

TRAIN_WITH_ZERO3 = """
import sys
from learner_builders import make_batch, make_work
from learner.deepspeed_learner import deepspeed_learner
from learner.config import LearnerConfig, OptimizerConfig

policy, port, out = sys.argv[1:]
config = LearnerConfig(dtype="float32", micro_batch_tokens=60, optimizer=OptimizerConfig(learning_rate=1e-2))
learner = deepspeed_learner(config, model_path=policy, seed=0, rank=0, address="127.0.0.1", port=int(port))
learner.start()
learner.step(make_work(make_batch(12, seed=1), config, step=0))
learner.save(out)
result = learner.step(make_work(make_batch(12), config, step=1))
print(result.metrics["learner_loss"], result.metrics["learner_grad_norm"])
learner.close()
"""


def make_config(**options: Any) -> LearnerConfig:
    defaults = {
        "engine": "torch",
        "dtype": "float32",
        "micro_batch_tokens": 60,
        "optimizer": OptimizerConfig(learning_rate=1e-2),
    }
    return LearnerConfig(**{**defaults, **options})


def make_learner(path: str, config: LearnerConfig) -> Learner:
    learner = torch_learner(config, model_path=path, seed=0)
    learner.start()
    return learner


def replay(path: str, config: LearnerConfig, work: StepWork, saved: Path | None = None) -> tuple[UpdateReplay, ...]:
    return tuple(StepReplay(config, model_path=path, seed=0, saved=saved).run(work))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mini_batch_groups": 1, "num_epochs": 2},
        {"mini_batch_groups": 1, "num_epochs": 2, "old_logprobs": "recompute"},
        {"mini_batch_groups": 1, "lora": LORA},
        {"layout": "padded"},
    ],
    ids=["one update", "updates", "old log-probs", "adapters", "padded"],
)
def test_a_healthy_step_has_the_learners_own_figures(
    options: dict[str, Any], untied_policy_path: str, tmp_path: Path
) -> None:
    config = make_config(**options)
    learner = make_learner(untied_policy_path, config)
    learner.step(make_work(make_batch(12, seed=1), config, step=0))
    learner.save(tmp_path / "saved")
    work = make_work(make_batch(12), config, step=1)
    metrics = learner.step(work).metrics
    updates = replay(untied_policy_path, config, work, tmp_path / "saved")
    assert len(updates) == len(work.mini_batches)
    assert all(each.whole.is_finite for each in updates)
    # The learner tells means over the updates; its losses by their tokens.
    norms = [each.whole.grad_norm for each in updates]
    tokens = [each.num_valid_tokens for each in work.mini_batches]
    losses = [each.whole.loss * count for each, count in zip(updates, tokens, strict=True)]
    assert sum(norms) / len(norms) == pytest.approx(metrics["learner_grad_norm"], rel=1e-6)
    assert sum(losses) / sum(tokens) == pytest.approx(metrics["learner_loss"], rel=1e-6)
    largest = updates[0].whole.max_log_ratio
    if len(updates) == 1:
        assert largest == pytest.approx(metrics["learner_logprob_difference_max_nats"], rel=1e-6)
    assert max(group.alone.max_log_ratio for group in updates[0].groups) == largest
    again = replay(untied_policy_path, config, work)
    assert again[0].whole.grad_norm != pytest.approx(norms[0], rel=1e-3), "the starting policy is another one"


def test_groups_alone_add_up_to_the_whole(tied_policy_path: str) -> None:
    config = make_config()
    samples = [replace(each, group_id=f"g{index // 4}") for index, each in enumerate(make_batch(12))]
    (update,) = replay(tied_policy_path, config, make_work(samples, config))
    assert [each.group_id for each in update.groups] == ["g0", "g1", "g2"]
    counts = [sum(each.num_valid_tokens for each in samples[start : start + 4]) for start in (0, 4, 8)]
    total = sum(each.alone.loss * count for each, count in zip(update.groups, counts, strict=True))
    assert total / sum(counts) == pytest.approx(update.whole.loss, rel=1e-5)
    assert all(not each.rollouts for each in update.groups)


@pytest.mark.parametrize("options", [{}, {"old_logprobs": "recompute", "mini_batch_groups": 1}], ids=["one", "three"])
def test_the_rollout_that_is_not_finite_is_found_and_later_updates_are_not_taken(
    options: dict[str, Any], tied_policy_path: str
) -> None:
    config = make_config(**options)
    samples = [replace(each, group_id=f"g{index // 4}") for index, each in enumerate(make_batch(12))]
    samples[5].advantages[-1] = math.nan
    work = make_work(samples, config, step=3)
    position = next(index for index, each in enumerate(work.mini_batches) if samples[5] in sum(each.micro_batches, ()))
    *before, update = replay(tied_policy_path, config, work)
    assert len(before) == position
    assert all(each.whole.is_finite for each in before)
    assert update.whole.not_finite.startswith(f"the loss is nan in step 3, update {position + 1} of ")
    bad = {each.group_id: each for each in update.groups if not each.alone.is_finite}
    assert list(bad) == ["g1"]
    assert {index: each.is_finite for index, each in bad["g1"].rollouts.items()} == {
        4: True,
        5: False,
        6: True,
        7: True,
    }


@pytest.mark.stack
def test_what_zero3_trained_is_replayed_by_plain_torch(tied_policy_path: str, tmp_path: Path) -> None:
    port = free_port()
    environment = worker_environment(rank=0, num_ranks=1, address="127.0.0.1", port=port, device="cpu")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_WITH_ZERO3, tied_policy_path, str(port), str(tmp_path / "saved")],
        env={**os.environ, **environment, "PYTHONPATH": f"{REPOSITORY}:{SUPPORT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    loss, norm = map(float, done.stdout.split()[-2:])
    config = make_config(engine="deepspeed", num_ranks=2)
    work = make_work(make_batch(12), make_config(), step=1)
    (update,) = replay(tied_policy_path, config, work, tmp_path / "saved")
    assert update.whole.loss == pytest.approx(loss, rel=1e-4)
    assert update.whole.grad_norm == pytest.approx(norm, rel=1e-4)
    (start,) = replay(tied_policy_path, config, work)
    assert start.whole.loss != pytest.approx(loss, rel=1e-3)
