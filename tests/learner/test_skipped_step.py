"""A loss or gradient that is not finite: the update is not taken, and the step ends there. ZeRO-3: test_zero3.py."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from learner_builders import make_batch, make_work
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from learner.config import LearnerConfig, OptimizerConfig
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from shaping.training import StepResult, TrainingSample


def make_config(**options: object) -> LearnerConfig:
    defaults = {
        "engine": "torch",
        "dtype": "float32",
        "micro_batch_tokens": 60,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
    }
    return LearnerConfig(**{**defaults, **options})


def make_learner(path: str, config: LearnerConfig, engine: type[TorchEngine] = TorchEngine) -> Learner:
    learner = Learner(config, engine=engine(config, model_path=path, seed=0), model_path=path, rank=0)
    learner.start()
    return learner


def weights_of(learner: Learner, directory: Path) -> dict[str, torch.Tensor]:
    learner.export(directory)
    return load_file(directory / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name].nan_to_num(7.0), second[name].nan_to_num(7.0)) for name in first)


def bad_batch(position: int, value: float = math.nan) -> list[TrainingSample]:
    """12 samples of three groups; the last advantage of one is not a number, as if memory had been hit."""
    samples = make_batch(12)
    samples[position].advantages[-1] = value
    return samples


def assert_skipped(result: StepResult, *, num_updates: int, num_valid_tokens: int) -> None:
    assert result.skipped
    assert result.num_updates == num_updates
    assert result.num_valid_tokens == num_valid_tokens
    assert result.metrics == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_skips_the_step_and_names_the_rollout(
    value: float, tied_policy_path: str, tmp_path: Path
) -> None:
    config = make_config()
    learner = make_learner(tied_policy_path, config)
    random_state = torch.get_rng_state()
    result = learner.step(make_work(bad_batch(5, value), config, step=3))
    assert_skipped(result, num_updates=0, num_valid_tokens=0)
    assert result.policy_version == 4
    assert result.skipped.startswith("the loss is ")
    assert result.skipped.endswith(" in step 3, update 1 of 1 (rollouts g/5)")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_same(weights_of(learner, tmp_path), load_file(Path(tied_policy_path) / "model.safetensors"))


def test_a_loss_that_only_its_size_breaks_names_the_whole_micro_batch(tied_policy_path: str) -> None:
    # 4 advantages of 3e38 are finite numbers, and their sum is not
    config = make_config(micro_batch_tokens=10_000)
    samples = make_batch(3)
    samples[1].advantages[-3:] = 3e38
    result = make_learner(tied_policy_path, config).step(make_work(samples, config))
    assert result.skipped == "the loss is -inf in step 0, update 1 of 1 (rollouts g/0, g/1, g/2)"


def test_updates_before_the_bad_one_stay_and_later_ones_are_not_taken(tied_policy_path: str, tmp_path: Path) -> None:
    config = make_config(mini_batch_groups=1)
    good = make_work(make_batch(12), config)
    order = [{each.rollout_index for part in update.micro_batches for each in part} for update in good.mini_batches]
    second = min(order[1])
    skipping, stopping = (make_learner(tied_policy_path, config) for _ in range(2))
    result = skipping.step(make_work(bad_batch(second), config))
    stopping.step(type(good)(**{**fields_of(good), "mini_batches": good.mini_batches[:1]}))
    assert_skipped(result, num_updates=1, num_valid_tokens=good.mini_batches[0].num_valid_tokens)
    assert f"update 2 of 3 (rollouts g/{second})" in result.skipped
    weights = weights_of(skipping, tmp_path / "skipping")
    assert_same(weights, weights_of(stopping, tmp_path / "stopping"))
    start = load_file(Path(tied_policy_path) / "model.safetensors")
    assert not any(torch.equal(weights[name], start[name]) for name in weights)


def fields_of(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in type(record).__slots__}


class InfiniteGradient(TorchEngine):
    """An engine whose loss is fine, and whose gradient is not at its second update."""

    num_norms = 0

    def grad_norm(self) -> float:
        self.num_norms += 1
        if self.num_norms == 2:
            self._policy.get_parameter("model.norm.weight").grad[0] = math.inf
        return super().grad_norm()


@pytest.mark.parametrize("cause", ["loss", "gradient"])
def test_training_goes_on_as_if_the_bad_step_had_never_been(cause: str, tied_policy_path: str, tmp_path: Path) -> None:
    config = make_config()
    engine = InfiniteGradient if cause == "gradient" else TorchEngine
    learner, spared = make_learner(tied_policy_path, config, engine), make_learner(tied_policy_path, config)
    for each in (learner, spared):
        each.step(make_work(make_batch(12, seed=1), config, step=0))
    samples = make_batch(12) if cause == "gradient" else bad_batch(7)
    result = learner.step(make_work(samples, config, step=1))
    assert result.skipped.startswith({"loss": "the loss is nan", "gradient": "the gradient norm is inf"}[cause])
    assert_same(weights_of(learner, tmp_path / "a"), weights_of(spared, tmp_path / "b"))
    results = [each.step(make_work(make_batch(12, seed=2), config, step=2)) for each in (learner, spared)]
    assert_same(weights_of(learner, tmp_path / "c"), weights_of(spared, tmp_path / "d"))
    numbers = [{name: value for name, value in each.metrics.items() if not name.endswith("_s")} for each in results]
    assert numbers[0] == numbers[1]
    assert all(math.isfinite(value) for value in numbers[0].values())


def test_a_broken_policy_names_few_of_its_rollouts(tied_policy_path: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied_policy_path)
    model.model.norm.weight.data[3] = math.nan
    model.save_pretrained(tmp_path / "broken")
    config = make_config()
    learner = make_learner(str(tmp_path / "broken"), config)
    result = learner.step(make_work(make_batch(20), config))
    assert result.skipped.count("g/") == 16
    assert result.skipped.endswith(" and 4 more)")
    assert_same(weights_of(learner, tmp_path / "after"), load_file(tmp_path / "broken" / "model.safetensors"))


def test_a_skipped_step_leaves_the_old_policy_of_the_next_one_alone(tied_policy_path: str, tmp_path: Path) -> None:
    config = make_config(mini_batch_groups=1, old_logprobs="recompute")
    learner, spared = (make_learner(tied_policy_path, config) for _ in range(2))
    bad = make_batch(12)
    for sample in bad:
        sample.advantages[-1] = np.nan
    assert learner.step(make_work(bad, config)).num_updates == 0
    for each in (learner, spared):
        each.step(make_work(make_batch(12), config, step=1))
    assert_same(weights_of(learner, tmp_path / "a"), weights_of(spared, tmp_path / "b"))
