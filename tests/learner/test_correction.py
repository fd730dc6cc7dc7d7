"""The mismatch correction, and what importance ratios are taken against."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from learner_builders import make_batch, make_sample, make_work
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from learner.collate import Microbatch, collate
from learner.config import CorrectionConfig, LearnerConfig, OptimizerConfig
from learner.correction import correction
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from shaping.components import ComponentSpec
from shaping.training import StepResult, TrainingSample

# rho of the tokens of two responses. Products: 4 x 0.5 = 2 and 0.25 x 1 x 1.5 = 0.375.
RATIOS = [4.0, 0.5, 0.25, 1.0, 1.5]
LOW, HIGH = 0.3, 1.8

# mode, level: factors, share that was changed, mean factor
WEIGHTED = {
    ("clamp", "token"): ([1.8, 0.5, 0.25, 1.0, 1.5], 1 / 5, 5.05 / 5),
    ("clamp", "sequence"): ([1.8, 1.8, 0.375, 0.375, 0.375], 2 / 5, (3.6 + 1.125) / 5),
    ("mask", "token"): ([0.0, 0.5, 0.0, 1.0, 1.5], 2 / 5, 3 / 5),
    ("mask", "sequence"): ([0.0, 0.0, 0.375, 0.375, 0.375], 2 / 5, 1.125 / 5),
}
UNWEIGHTED = {
    ("mask", "token"): ([0.0, 1.0, 0.0, 1.0, 1.0], 2 / 5, 3 / 5),
    ("mask", "sequence"): ([0.0, 0.0, 1.0, 1.0, 1.0], 2 / 5, 3 / 5),
}
CASES = [(True, *key, *wanted) for key, wanted in WEIGHTED.items()]
CASES += [(False, *key, *wanted) for key, wanted in UNWEIGHTED.items()]


def two_responses(layout: str) -> tuple[Microbatch, torch.Tensor]:
    """A batch of two responses, each behind a hint of one token, and log-probs `RATIOS` times the behavior's."""
    samples = [make_sample(num_hint=1, num_response=2, seed=1), make_sample(num_hint=1, num_response=3, seed=2)]
    batch = collate(samples, layout)
    logprobs = torch.full((7,), -9.0)
    logprobs[batch.loss_mask] = batch.behavior_logprobs[batch.loss_mask] + torch.tensor(RATIOS).log()
    return batch, logprobs


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(("is_weighted", "mode", "level", "factors", "share", "mean"), CASES)
def test_factors_of_every_mode_and_level(
    is_weighted: bool, mode: str, level: str, factors: list[float], share: float, mean: float, layout: str
) -> None:
    batch, logprobs = two_responses(layout)
    config = CorrectionConfig(mode=mode, level=level, low=LOW, high=HIGH)
    found, metrics = correction(config, batch, logprobs, is_weighted=is_weighted)
    assert found.tolist() == pytest.approx(factors, rel=1e-5)
    name = {"clamp": "clamped", "mask": "masked"}[mode]
    assert metrics.keys() == {f"learner_correction_{name}_share", "learner_correction_weight_mean"}
    assert metrics[f"learner_correction_{name}_share"].value == pytest.approx(share)
    assert metrics["learner_correction_weight_mean"].value == pytest.approx(mean, rel=1e-5)


def test_no_correction_changes_and_counts_nothing() -> None:
    batch, logprobs = two_responses("packed")
    factors, metrics = correction(CorrectionConfig(), batch, logprobs, is_weighted=True)
    assert factors.tolist() == [1.0] * 5
    assert metrics == {}


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_ratio_beyond_any_number_is_clamped_or_masked(level: str) -> None:
    batch, logprobs = two_responses("packed")
    wild = torch.where(batch.loss_mask, logprobs + 1e4, 0.0)
    clamped, _ = correction(CorrectionConfig(mode="clamp", level=level), batch, wild, is_weighted=True)
    masked, _ = correction(CorrectionConfig(mode="mask", level=level), batch, wild, is_weighted=True)
    assert clamped.tolist() == [2.0] * 5
    assert masked.tolist() == [0.0] * 5


def test_a_micro_batch_without_trained_tokens_has_no_factors() -> None:
    batch = collate([], "packed")
    config = CorrectionConfig(mode="clamp", level="sequence")
    factors, metrics = correction(config, batch, torch.zeros(1), is_weighted=True)
    assert factors.shape == (0,)
    assert metrics["learner_correction_weight_mean"].value is None


def test_a_weight_on_top_of_the_losss_own_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clamp needs old_logprobs recompute: .* would count it twice; set"):
        LearnerConfig(correction=CorrectionConfig(mode="clamp"))
    LearnerConfig(correction=CorrectionConfig(mode="mask"))
    LearnerConfig(correction=CorrectionConfig(mode="clamp"), old_logprobs="recompute")


# -- a whole step


class RecordingEngine(TorchEngine):
    """Keeps the gradient of the last update, and counts forward passes."""

    num_passes = 0

    def score(self, *arguments: object, **options: object) -> torch.Tensor:
        self.num_passes += 1
        return super().score(*arguments, **options)

    def update(self, learning_rate: float) -> None:
        self.gradients = {each.name: self.full_gradient(each.name) for each in self.parameters()}
        super().update(learning_rate)


UNCLIPPED = ComponentSpec(kind="ppo_clip", options={"clip_low": 1.0, "clip_high": 1e6, "dual_clip": 0.0})


def make_config(**options: object) -> LearnerConfig:
    defaults = {
        "engine": "torch",
        "dtype": "float32",
        "micro_batch_tokens": 60,
        "loss": UNCLIPPED,
        "optimizer": OptimizerConfig(learning_rate=1e-2, epsilon=1e-2),
    }
    return LearnerConfig(**{**defaults, **options})


def train(
    path: str, config: LearnerConfig, samples: list[TrainingSample]
) -> tuple[RecordingEngine, Learner, StepResult]:
    engine = RecordingEngine(config, model_path=path, seed=0)
    learner = Learner(config, engine=engine, model_path=path, rank=0)
    learner.start()
    return engine, learner, learner.step(make_work(samples, config))


def logprobs_of(model: torch.nn.Module, sample: TrainingSample) -> torch.Tensor:
    """[L - 1], by transformers, one sequence at a time."""
    ids = torch.from_numpy(sample.token_ids).long()
    return model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]


def expected_gradients(
    path: str, samples: list[TrainingSample], config: CorrectionConfig, *, recompute: bool
) -> dict[str, torch.Tensor]:
    """Of the mean over tokens of -factor A ratio, one response at a time."""
    model = AutoModelForCausalLM.from_pretrained(path)
    for sample in samples:
        mask = torch.from_numpy(sample.loss_mask[1:])
        logprobs = logprobs_of(model, sample)[mask]
        behavior = torch.from_numpy(sample.behavior_logprobs[1:])[mask]
        advantages = torch.from_numpy(sample.advantages[1:])[mask]
        logs = logprobs.detach() - behavior
        rho = (logs.sum().expand_as(logs) if config.level == "sequence" else logs).exp()
        inside = (rho >= config.low) & (rho <= config.high)
        weight = {"none": torch.ones_like(rho), "clamp": rho.clamp(max=config.high), "mask": rho * inside}[config.mode]
        if not recompute:
            weight = inside.float() if config.mode == "mask" else torch.ones_like(rho)
        ratios = (logprobs - (logprobs.detach() if recompute else behavior)).exp()
        (-(weight * advantages * ratios).sum() / sum(each.num_valid_tokens for each in samples)).backward()
    return {name: each.grad for name, each in model.named_parameters()}


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(
    ("old", "mode", "level"),
    [
        *(("recompute", *key) for key in [("none", "token"), *WEIGHTED]),
        *(("behavior", *key) for key in [("none", "token"), *UNWEIGHTED]),
    ],
)
def test_gradients_equal_those_of_the_formula(
    old: str, mode: str, level: str, layout: str, tied_policy_path: str
) -> None:
    # Behavior log-probs differ by 0.3 to 1 nat per token, so products of up to 16 ratios reach far on both sides.
    bounds = {"token": (0.6, 1.5), "sequence": (0.2, 4.0)}[level]
    samples = make_batch(8)
    chosen = CorrectionConfig(mode=mode, level=level, low=bounds[0], high=bounds[1])
    config = make_config(old_logprobs=old, correction=chosen, layout=layout)
    engine, _, result = train(tied_policy_path, config, samples)
    wanted = expected_gradients(tied_policy_path, samples, chosen, recompute=old == "recompute")
    assert engine.gradients.keys() == wanted.keys()
    for name, gradient in engine.gradients.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4)
    if mode != "none":
        share = result.metrics[f"learner_correction_{'clamped' if mode == 'clamp' else 'masked'}_share"]
        assert 0.1 < share < 0.9


def with_behavior(samples: list[TrainingSample], path: str) -> list[TrainingSample]:
    """The same samples, sampled by the policy itself."""
    model = AutoModelForCausalLM.from_pretrained(path)
    changed = []
    for sample in samples:
        found = np.concatenate([[0], logprobs_of(model, sample).detach().numpy()]).astype(np.float32)
        changed.append(dataclasses.replace(sample, behavior_logprobs=np.where(sample.loss_mask, found, 0.0)))
    return changed


@pytest.mark.parametrize("options", [{}, {"num_epochs": 2}, {"gradient_checkpointing": True}])
def test_recomputed_ratios_are_against_the_policy_before_the_first_update(
    options: dict, tied_policy_path: str, tmp_path: Path
) -> None:
    # A sampler that agrees with the learner has the old log-probs that any other one is given by recomputing.
    samples = make_batch(12)
    common = {"mini_batch_groups": 1, "loss": ComponentSpec(kind="ppo_clip"), **options}
    recomputed = make_config(old_logprobs="recompute", **common)
    weights = []
    for config, batch in ((recomputed, samples), (make_config(**common), with_behavior(samples, tied_policy_path))):
        _, learner, result = train(tied_policy_path, config, batch)
        learner.export(tmp_path / config.old_logprobs)
        weights.append(load_file(tmp_path / config.old_logprobs / "model.safetensors"))
        assert result.num_updates == 3 * config.num_epochs
    start = load_file(Path(tied_policy_path) / "model.safetensors")
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], atol=2e-6, rtol=0)
        assert float((weight - start[name]).abs().max()) > 1e-3


def test_the_first_update_needs_no_extra_forward_pass(tied_policy_path: str) -> None:
    samples = make_batch(12)
    passes = {}
    for num_groups in (0, 1):
        for old in ("behavior", "recompute"):
            config = make_config(old_logprobs=old, mini_batch_groups=num_groups, micro_batch_tokens=10_000)
            passes[num_groups, old] = train(tied_policy_path, config, samples)[0].num_passes
    # one micro-batch an update: 1 or 3 updates, and 2 passes more for the second and third
    assert passes == {(0, "behavior"): 1, (0, "recompute"): 1, (1, "behavior"): 3, (1, "recompute"): 5}


def test_nothing_is_clipped_at_the_first_update_where_old_logprobs_are_recomputed(tied_policy_path: str) -> None:
    config = make_config(old_logprobs="recompute", loss=ComponentSpec(kind="ppo_clip"))
    _, _, result = train(tied_policy_path, config, make_batch(8))
    assert result.metrics["learner_importance_ratio_mean"] == result.metrics["learner_importance_ratio_max"] == 1.0
    assert result.metrics["learner_clip_low_share"] == result.metrics["learner_clip_high_share"] == 0.0
    assert result.metrics["learner_logprob_difference_mean_nats"] > 0.1


def test_token_plans_of_a_whole_update_see_the_recomputed_logprobs(tied_policy_path: str) -> None:
    # A ratio that the loss clips is no candidate of Clip-Cov: with recomputed ones every token is, at the first update.
    plan = ComponentSpec(kind="clip_cov", options={"share": 1.0, "lower": -100.0, "upper": 100.0})
    shares = {}
    for old in ("behavior", "recompute"):
        config = make_config(old_logprobs=old, token_plans=(plan,), loss=ComponentSpec(kind="ppo_clip"))
        shares[old] = train(tied_policy_path, config, make_batch(8))[2].metrics["learner_token_weight_mean"]
    assert shares["recompute"] == 0.0
    assert 0.1 < shares["behavior"] < 0.9


def test_a_factor_is_part_of_the_tokens_weight(tied_policy_path: str) -> None:
    config = make_config(old_logprobs="recompute", correction=CorrectionConfig(mode="clamp", high=1.2))
    metrics = train(tied_policy_path, config, make_batch(8))[2].metrics
    assert metrics["learner_token_weight_mean"] == pytest.approx(metrics["learner_correction_weight_mean"])
    assert math.isfinite(metrics["learner_loss"])
