"""What a plan says of LoRA, and what it refuses, from the headers of the model's files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_builders import make_recipe
from safetensors.numpy import save_file

from services.plan import RunPlan, make_plan
from services.plan_text import plan_text
from shaping.errors import RecipeError

SIZES = {
    "vocab_size": 100,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
LINEAR = {
    **{f"self_attn.{name}_proj": shape for name, shape in {"q": (8, 8), "k": (4, 8), "v": (4, 8), "o": (8, 8)}.items()},
    **{f"mlp.{name}_proj": shape for name, shape in {"gate": (16, 8), "up": (16, 8), "down": (8, 16)}.items()},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama-like model of 2 layers, 1952 numbers in its matrices."""
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 8), "model.norm.weight": (8,)}
    for layer in range(2):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in LINEAR.items()}
        shapes |= {f"model.layers.{layer}.self_attn.q_proj.bias": (8,)}
        shapes |= {f"model.layers.{layer}.input_layernorm.weight": (8,)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "model.safetensors")
    return tmp_path


def plan_of(folder: Path, changes: dict[str, Any] | None = None, **lora: Any) -> RunPlan:
    return make_plan(make_recipe({"model.path": str(folder), "learner.lora": {"rank": 2, **lora}, **(changes or {})}))


def test_gradients_and_optimizer_state_are_of_adapters_only(folder: Path) -> None:
    plan = plan_of(folder)
    # rank x (out + in): q, o 2 x 16; k, v 2 x 12; gate, up, down 2 x 24: 64 + 48 + 144 a layer
    assert plan.num_trained_parameters == 2 * 256
    assert plan.num_parameters == 1952
    assert plan.learner_state_bytes == 4 * 1952 + 512 * 16  # 4 + 4 for weight and gradient, Adam 8
    bfloat16 = plan_of(folder, {"learner.engine": "deepspeed", "learner.dtype": "bfloat16", "learner.num_ranks": 2})
    assert bfloat16.learner_state_bytes == (2 * 1952 + 512 * 18) // 2  # weight 2, master 4, gradient 4, Adam 8
    assert "0.00M in adapters train" in plan_text(plan)


def test_without_lora_everything_trains(folder: Path) -> None:
    plan = plan_of(folder, rank=0, targets=["query"])
    assert plan.num_trained_parameters == plan.num_parameters == 1952
    assert "adapters" not in plan_text(plan)


def test_fewer_targets_train_less(folder: Path) -> None:
    assert plan_of(folder, targets=["k_proj"]).num_trained_parameters == 2 * 2 * 12


@pytest.mark.parametrize("target", ["query", "embed_tokens", "norm", "input_layernorm", "self_attn"])
def test_a_target_that_is_no_linear_layer_is_refused(folder: Path, target: str) -> None:
    with pytest.raises(RecipeError, match=rf"got '{target}'; .* has down_proj, gate_proj, .*\(learner\.lora\.targets"):
        plan_of(folder, targets=["q_proj", target])


def test_adapters_cannot_be_published_beside_weights_that_engines_cannot_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RecipeError, match=r"found neither in .* set it to merged \(learner\.lora\.publish\)"):
        plan_of(folder, publish="adapter")
    merged = plan_of(folder)
    assert merged.num_trained_parameters is None and merged.learner_state_bytes is None
    assert "unknown number of" in plan_text(merged)


def test_a_model_that_is_not_on_disk_is_left_to_the_learner(folder: Path) -> None:
    plan = plan_of(folder, {"model.path": "some/model"}, publish="adapter")
    assert plan.num_trained_parameters is None
