"""Adapters on plain torch: what trains, what the gradient is, what is published. ZeRO-3: test_zero3.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from learner_builders import make_batch, make_work
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from learner.collate import Microbatch, collate
from learner.config import KLConfig, LearnerConfig, LoraConfig, OptimizerConfig
from learner.learner import Learner
from learner.lora import published_adapters, without_adapters
from learner.policy import Policy, load_policy
from learner.torch_engine import TorchEngine
from shaping.errors import RecipeError
from shaping.training import AdapterLayout

LORA = LoraConfig(rank=4, alpha=6.0)
SCALING = 1.5
QUERY = "model.layers.1.self_attn.q_proj"
SCORING = {"temperature": 1.0, "entropy_temperature": 1.0, "differentiable_entropies": False}


def make_config(lora: LoraConfig = LORA, **options: object) -> LearnerConfig:
    defaults = {
        "engine": "torch",
        "dtype": "float32",
        "layout": "packed",
        "micro_batch_tokens": 60,
        "mini_batch_groups": 1,
        "logprob_chunk_tokens": 16,
        "bucket_bytes": 50_000,
        "optimizer": OptimizerConfig(learning_rate=1e-2),
    }
    return LearnerConfig(lora=lora, **{**defaults, **options})


def start(path: str, config: LearnerConfig, *, seed: int = 0) -> tuple[TorchEngine, Learner]:
    engine = TorchEngine(config, model_path=path, seed=seed)
    learner = Learner(config, engine=engine, model_path=path, rank=0)
    learner.start()
    return engine, learner


def train(path: str, config: LearnerConfig, *, num_steps: int = 1) -> tuple[TorchEngine, Learner]:
    engine, learner = start(path, config)
    for step in range(num_steps):
        learner.step(make_work(make_batch(8), config, step=step))
    return engine, learner


def load(path: str, lora: LoraConfig = LORA, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Policy:
    return load_policy(path, dtype=dtype, chunk_tokens=16, gradient_checkpointing=False, lora=lora, seed=seed)


def batch() -> Microbatch:
    return collate(make_batch(3), "packed")


def values(engine: TorchEngine, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    with engine.gathered(names) as tensors:
        return dict(zip(names, (tensor.clone() for tensor in tensors), strict=True))


def adapters(engine: TorchEngine) -> dict[str, torch.Tensor]:
    return values(engine, tuple(each.name for each in engine.adapter_parameters()))


def weights(engine: TorchEngine) -> dict[str, torch.Tensor]:
    return values(engine, tuple(each.name for each in engine.parameters()))


def start_weights(path: str) -> dict[str, torch.Tensor]:
    return load_file(Path(path) / "model.safetensors")


@torch.no_grad()
def fill_adapters(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_before_training_the_policy_is_the_checkpoint_to_the_last_bit(tied_policy_path: str) -> None:
    with_adapters, plain = (load(tied_policy_path, lora)(batch(), **SCORING) for lora in (LORA, LoraConfig()))
    assert torch.equal(with_adapters, plain)


def test_adapters_are_drawn_from_the_seed_alone(tied_policy_path: str) -> None:
    drawn = []
    for seed, others in ((5, 1), (5, 2), (6, 1)):
        torch.manual_seed(others)
        found = published_adapters(load(tied_policy_path, seed=seed))
        drawn.append({name: tensor.value() for name, tensor in found.items()})
    first, same, other = drawn
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first[f"{QUERY}.lora_A.weight"], other[f"{QUERY}.lora_A.weight"])
    assert not any(first[name].any() for name in first if ".lora_B." in name)


def test_drawing_adapters_leaves_the_random_stream_of_training_alone(tied_policy_path: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load(tied_policy_path, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_adapters_train_and_nothing_else(tied_policy_path: str) -> None:
    engine, _ = train(tied_policy_path, make_config())
    trained = [parameter for group in engine._optimizer.param_groups for parameter in group["params"]]
    # 2 layers of 7 targets with A and B each
    assert len(trained) == len(adapters(engine)) == 28
    assert all(value.any() for value in adapters(engine).values())
    before = start_weights(tied_policy_path)
    frozen = {name: value for name, value in engine._policy.named_parameters() if not value.requires_grad}
    assert len(frozen) == len(before)
    for name, value in frozen.items():
        assert torch.equal(value, before[name.replace(".base_layer.", ".")]), name


def test_the_gradient_follows_the_chain_rule_of_the_merged_weight(tied_policy_path: str) -> None:
    """W' = W + s B A gives dL/dB = s dL/dW' A^T and dL/dA = s B^T dL/dW'; the oracle trains W' itself, whole."""
    adapted = load(tied_policy_path, dtype=torch.float64)
    fill_adapters(adapted)
    whole = load(tied_policy_path, LoraConfig(), dtype=torch.float64)
    pairs = {}
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            layer = name.removesuffix(".weight")
            if layer.rpartition(".")[2] in LORA.targets and name.endswith(".weight"):
                module = adapted.get_submodule(layer)
                pairs[name] = (module.lora_A["default"].weight, module.lora_B["default"].weight)
                parameter += SCALING * pairs[name][1] @ pairs[name][0]
    losses = []
    for policy in (adapted, whole):
        scores = policy(batch(), **SCORING)
        weighting = torch.linspace(-1, 1, scores.shape[1])
        losses.append((scores[0] * weighting).sum())
        losses[-1].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    assert len(pairs) == 14
    for name, (a, b) in pairs.items():
        full = whole.get_parameter(name).grad
        torch.testing.assert_close(b.grad, SCALING * full @ a.T, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(a.grad, SCALING * b.T @ full, rtol=1e-3, atol=1e-4)
        assert float(a.grad.abs().max()) > 1e-2 and float(b.grad.abs().max()) > 1e-2


def test_published_weights_are_the_start_plus_scaled_products(tied_policy_path: str) -> None:
    engine, learner = train(tied_policy_path, make_config())
    before, found, parts = start_weights(tied_policy_path), weights(engine), adapters(engine)
    assert learner.weight_layout().adapter is None
    assert [name for bucket in learner.weight_layout().buckets for name in bucket.names] == list(found)
    assert set(found) == set(before)
    for name, value in found.items():
        layer = name.removesuffix(".weight")
        if f"{layer}.lora_A.weight" not in parts or not name.endswith(".weight"):
            assert torch.equal(value, before[name]), name
            continue
        a, b = (parts[f"{layer}.{part}.weight"].double().numpy() for part in ("lora_A", "lora_B"))
        expected = before[name].double().numpy() + SCALING * (b @ a)
        np.testing.assert_allclose(value.numpy(), expected, atol=1e-6)
        assert np.abs(value.numpy() - before[name].numpy()).max() > 1e-3


def test_publishing_does_not_move_the_policy(tied_policy_path: str) -> None:
    engine, learner = train(tied_policy_path, make_config())
    before = {name: value.clone() for name, value in engine._policy.named_parameters()}
    first = weights(engine)
    second = weights(engine)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(value, before[name]) for name, value in engine._policy.named_parameters())
    assert learner.weight_layout().num_bytes == sum(value.nbytes for value in first.values())


def test_an_adapter_layout_holds_a_and_b_of_each_target_layer(tied_policy_path: str) -> None:
    """Per layer of width 64, key and value width 32, inner width 128, rank 4, in elements:
    q, o: 2 x 4 x (64 + 64); k, v: 2 x 4 x (64 + 32); gate, up, down: 3 x 4 x (64 + 128); 4096 in all, 4 bytes each."""
    lora = LoraConfig(rank=4, alpha=6.0, publish="adapter")
    layout = start(tied_policy_path, make_config(lora))[1].weight_layout()
    assert layout.adapter == AdapterLayout(rank=4, scaling=1.5, targets=LORA.targets)
    assert layout.num_bytes == 2 * 4096 * 4
    shapes = {
        name: shape
        for bucket in layout.buckets
        for name, shape in zip(bucket.names, bucket.shapes, strict=True)
        if name.startswith("model.layers.1.mlp.down_proj")
    }
    assert shapes == {
        "model.layers.1.mlp.down_proj.lora_A.weight": (4, 128),
        "model.layers.1.mlp.down_proj.lora_B.weight": (64, 4),
    }


def test_an_export_is_the_adapted_policy_as_a_plain_checkpoint(untied_policy_path: str, tmp_path: Path) -> None:
    engine, learner = train(untied_policy_path, make_config())
    learner.export(tmp_path)
    with torch.no_grad():
        exported, before = (
            load(path, LoraConfig())(batch(), **SCORING) for path in (str(tmp_path), untied_policy_path)
        )
        torch.testing.assert_close(exported, engine._policy(batch(), **SCORING), atol=1e-5, rtol=1e-5)
    assert float((exported - before).abs().max()) > 1e-2
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {name for name, _ in model.named_parameters()} == set(start_weights(str(tmp_path)))


def test_the_reference_is_the_start_without_a_second_model(tied_policy_path: str) -> None:
    config = make_config(kl=KLConfig(coefficient=0.1))
    engine, _ = train(tied_policy_path, config)
    with torch.no_grad():
        before = engine._policy(batch(), **SCORING)
        expected = load(tied_policy_path, LoraConfig())(batch(), **SCORING)[0]
    assert torch.equal(engine.reference_logprobs(batch(), temperature=1.0), expected)
    assert not torch.equal(before[0], expected)
    with torch.no_grad():
        assert torch.equal(engine._policy(batch(), **SCORING), before)


def test_kl_to_the_start_grows_from_zero(tied_policy_path: str) -> None:
    config = make_config(kl=KLConfig(coefficient=0.1), mini_batch_groups=0)
    _, learner = start(tied_policy_path, config)
    results = [learner.step(make_work(make_batch(8), config, step=step)) for step in range(3)]
    found = [result.metrics["learner_kl_nats"] for result in results]
    assert found[0] == 0.0
    assert 0 < found[1] < found[2]


def test_a_reference_pass_that_fails_leaves_the_adapters_on(tied_policy_path: str) -> None:
    policy = load(tied_policy_path)
    fill_adapters(policy)
    before = policy(batch(), **SCORING)
    with pytest.raises(TypeError):
        without_adapters(policy)(batch())
    assert torch.equal(policy(batch(), **SCORING), before)


def test_checkpointed_activations_change_no_bit(tied_policy_path: str) -> None:
    kl = KLConfig(coefficient=0.1)
    plain, checkpointed = (
        adapters(train(tied_policy_path, make_config(kl=kl, gradient_checkpointing=each))[0]) for each in (False, True)
    )
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_a_saved_learner_goes_on_bit_for_bit(tied_policy_path: str, tmp_path: Path) -> None:
    config = make_config()
    engine, learner = train(tied_policy_path, config)
    learner.save(tmp_path / "state")
    learner.step(make_work(make_batch(8), config, step=1))
    resumed_engine, resumed = start(tied_policy_path, config, seed=7)
    resumed.load(tmp_path / "state")
    resumed.step(make_work(make_batch(8), config, step=1))
    for read in (adapters, weights):
        expected, found = read(engine), read(resumed_engine)
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_adapters_of_a_bfloat16_policy_are_bfloat16_and_round_once(tied_policy_path: str) -> None:
    policy = load(tied_policy_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.bfloat16}
    fill_adapters(policy)
    engine = TorchEngine(make_config(), model_path=tied_policy_path, seed=0)
    engine._publish(policy)
    name = f"{QUERY}.weight"
    found = values(engine, (name, f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight"))
    weight, a, b = found.values()
    base = start_weights(tied_policy_path)[name].bfloat16().double()
    expected = base + SCALING * (b.double() @ a.double())
    # One rounding to 7 stored bits of mantissa: at most half a unit in the last place, 2^-8 relative.
    assert weight.dtype == torch.bfloat16
    assert float(((weight.double() - expected) / expected).abs().max()) <= 2**-8 * 1.001


@pytest.mark.parametrize("target", ["query", "lm_head", "embed_tokens", "self_attn", "norm"])
def test_a_target_that_is_no_linear_layer_is_refused(target: str, untied_policy_path: str) -> None:
    lora = LoraConfig(rank=2, targets=("q_proj", target))
    with pytest.raises(
        RecipeError, match=rf"linear layers, got '{target}'; the model has down_proj, .*v_proj \(learner\.lora\.targets"
    ):
        start(untied_policy_path, make_config(lora))


def test_a_started_learner_says_that_it_trains_adapters(tied_policy_path: str) -> None:
    config = make_config()
    learner = Learner(
        config, engine=TorchEngine(config, model_path=tied_policy_path, seed=0), model_path=tied_policy_path, rank=0
    )
    assert learner.start().description.endswith("1 rank, LoRA of rank 4")


def test_only_named_layers_get_adapters(tied_policy_path: str) -> None:
    engine, _ = start(tied_policy_path, make_config(LoraConfig(rank=2, targets=("v_proj",))))
    assert {name.split(".")[4] for name in adapters(engine)} == {"v_proj"}
