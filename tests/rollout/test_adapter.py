"""Adapters folded into the starting weights by an engine: bit for bit what the learner publishes merged."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner_builders import write_tiny_policy
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from learner.config import LoraConfig
from learner.lora import adapter_layout
from learner.policy import load_policy
from learner.scoring import ScoringEngine
from learner.weights import ParameterSpec, bucket_layout
from rollout.adapter import StartingWeights, whole_weights
from rollout.model_files import parameter_shapes
from rollout.model_tensors import tensor_files, tensor_shapes
from rollout.weight_checks import adapter_shapes, check_layout, layout_from_plain, layout_to_plain
from rollout.weight_staging import StagedWeights
from shaping.errors import DataError, EngineRefused
from shaping.training import AdapterLayout, WeightLayout

LORA = LoraConfig(rank=4, alpha=6.0, publish="adapter")
ADAPTER = AdapterLayout(rank=4, scaling=1.5, targets=LORA.targets)
FIRST = "model.layers.0.self_attn.q_proj"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_policy(tmp_path_factory.mktemp("tied"))


class Publisher(ScoringEngine):
    """A policy with random adapters, and what it publishes."""

    def __init__(self, path: str, *, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self.policy = load_policy(path, dtype=dtype, chunk_tokens=16, gradient_checkpointing=False, lora=LORA)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.policy.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        self._publish(self.policy)

    def merged(self) -> dict[str, torch.Tensor]:
        return {name: tensor.value() for name, tensor in self._weights.items()}

    def staged(self, *, as_adapter: bool = True) -> StagedWeights:
        """As an engine holds it after a transfer."""
        specs = self.adapter_parameters() if as_adapter else self.parameters()
        layout = bucket_layout(specs, 10_000, adapter=adapter_layout(LORA) if as_adapter else None)
        buckets = [
            torch.cat([self._published(name).value().contiguous().view(torch.uint8).flatten() for name in bucket.names])
            for bucket in layout.buckets
        ]
        return StagedWeights(layout=layout, buckets=tuple(buckets), checksums=())


def starting(path: str | Path) -> StartingWeights:
    return StartingWeights(str(path), parameter_shapes(str(path)))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_give_the_merged_weights_bit_for_bit(policy_path: str, dtype: torch.dtype) -> None:
    publisher = Publisher(policy_path, seed=1, dtype=dtype)
    assert len(publisher.staged().layout.buckets) > 1
    found = dict(whole_weights(publisher.staged(), starting(policy_path)))
    assert_same(found, publisher.merged())
    start = load_file(Path(policy_path) / "model.safetensors")
    assert not torch.equal(found[f"{FIRST}.weight"], start[f"{FIRST}.weight"].to(dtype))


def test_a_version_is_made_of_the_start_and_not_of_the_version_before(policy_path: str) -> None:
    base = starting(policy_path)
    first, second = Publisher(policy_path, seed=1), Publisher(policy_path, seed=2)
    for publisher in (first, second, first):
        assert_same(dict(whole_weights(publisher.staged(), base)), publisher.merged())


def test_whole_weights_pass_as_they_are(policy_path: str) -> None:
    publisher = Publisher(policy_path, seed=1)
    assert_same(dict(whole_weights(publisher.staged(as_adapter=False), None)), publisher.merged())


def test_a_checkpoint_of_another_dtype_is_rounded_to_the_learners_first(policy_path: str, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(policy_path, dtype=torch.bfloat16).save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        publisher = Publisher(str(tmp_path), seed=1, dtype=dtype)
        assert_same(dict(whole_weights(publisher.staged(), starting(tmp_path))), publisher.merged())


def test_a_checkpoint_in_shards_is_read(policy_path: str, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(policy_path).save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(set(tensor_files(tmp_path).values())) > 1
    publisher = Publisher(policy_path, seed=1)
    assert_same(dict(whole_weights(publisher.staged(), starting(tmp_path))), publisher.merged())


def test_a_checkpoint_that_lacks_a_parameter_or_has_another_is_refused(policy_path: str, tmp_path: Path) -> None:
    weights = load_file(Path(policy_path) / "model.safetensors")
    name = f"{FIRST}.weight"
    for file in ("config.json",):
        (tmp_path / file).write_text((Path(policy_path) / file).read_text())
    save_file({each: value for each, value in weights.items() if each != name}, tmp_path / "model.safetensors")
    with pytest.raises(EngineRefused, match=rf"1 are not in the checkpoint \['{name}'\].*publish merged weights"):
        starting(tmp_path)
    save_file({**weights, name: weights[name][:2].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(EngineRefused, match=rf"{name} must have shape \(64, 64\), got \(2, 64\)"):
        starting(tmp_path)


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match=r"must hold model\.safetensors or model\.safetensors\.index\.json"):
        StartingWeights(str(tmp_path), {})
    with pytest.raises(EngineRefused, match="must be in the local Hugging Face cache"):
        StartingWeights("no-such/model-anywhere", {})


def test_damaged_safetensors_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x08" + b"\0" * 20)
    with pytest.raises(DataError, match=r"model\.safetensors must be a safetensors file"):
        tensor_files(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weights": {}}))
    with pytest.raises(DataError, match="must be JSON with a weight_map"):
        tensor_files(tmp_path)


def test_headers_tell_names_and_shapes(policy_path: str) -> None:
    file = Path(policy_path) / "model.safetensors"
    assert tensor_shapes(file) == parameter_shapes(policy_path)
    assert tensor_files(Path(policy_path)) == dict.fromkeys(tensor_shapes(file), file)


def layout_of(shapes: dict[str, tuple[int, ...]], adapter: AdapterLayout = ADAPTER) -> WeightLayout:
    specs: Sequence[ParameterSpec] = [
        ParameterSpec(name=name, shape=shape, dtype="float32") for name, shape in shapes.items()
    ]
    return bucket_layout(specs, 10_000, adapter=adapter)


def test_a_layout_holds_exactly_the_adapters_of_its_targets(policy_path: str) -> None:
    model = parameter_shapes(policy_path)
    shapes = adapter_shapes(model, ADAPTER)
    # 2 layers of 7 targets with A and B each; the learner's own layout is taken
    assert len(shapes) == 28
    learned = Publisher(policy_path, seed=1).staged().layout
    check_layout(learned, model)
    assert {name for bucket in learned.buckets for name in bucket.names} == set(shapes)
    pair = {f"{FIRST}.lora_A.weight": (4, 64), f"{FIRST}.lora_B.weight": (64, 4)}
    assert pair.items() <= shapes.items()
    refused: list[tuple[WeightLayout, str]] = [
        (layout_of({name: shape for name, shape in shapes.items() if "lora_B" not in name}), "14 missing"),
        (layout_of({**shapes, f"{FIRST}.weight": (64, 64)}), r"1 unknown \['" + FIRST),
        (layout_of({**shapes, f"{FIRST}.lora_A.weight": (8, 64)}), r"lora_A\.weight must have shape \(4, 64\), got"),
        (layout_of(shapes, replace(ADAPTER, targets=("q_proj",))), "0 missing .* 24 unknown"),
        (layout_of(shapes, replace(ADAPTER, rank=8)), "must have shape"),
        (replace(layout_of(shapes), adapter=None), "28 unknown"),
    ]
    for layout, message in refused:
        with pytest.raises(EngineRefused, match=message):
            check_layout(layout, model)


def test_only_matrices_named_weight_have_adapters() -> None:
    model = {"0.q.weight": (2, 3), "0.q.bias": (2,), "0.q.table": (5, 3), "0.norm.weight": (3,), "0.v.weight": (2, 3)}
    adapter = AdapterLayout(rank=1, scaling=1.0, targets=("q", "norm"))
    assert adapter_shapes(model, adapter) == {"0.q.lora_A.weight": (1, 3), "0.q.lora_B.weight": (2, 1)}


def test_an_adapter_layout_survives_the_way_through_plain_data(policy_path: str) -> None:
    layout = Publisher(policy_path, seed=1).staged().layout
    # As msgpack carries it: tuples become lists.
    assert layout_from_plain(json.loads(json.dumps(layout_to_plain(layout)))) == layout
