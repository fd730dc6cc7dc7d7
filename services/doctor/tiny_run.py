"""A run so small that it shows in seconds whether engine, verifier and learner work: a random policy over digits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("<end>", "<pad>", "?", *"0123456789")
HIDDEN, HEADS, LAYERS = 64, 2, 1
"""Heads of 32 numbers are the smallest that every engine takes."""

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "vocab_size": len(WORDS),
    "hidden_size": HIDDEN,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


def write_tiny_run(folder: Path, *, full: bool, device: str) -> Path:
    """Policy, data and recipe of one step.

    Args:
        full: vLLM, DeepSpeed and Ray; otherwise engine and learner are torch, in one process.
        device: "cpu" or "cuda"; without `full` always the CPU.
    Returns:
        The recipe's file.
    """
    _write_policy(folder / "policy")
    rows = [{"problem": f"{number}?", "answer": str(number)} for number in range(8)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    gpus = 0.5 if full and device == "cuda" else 0
    claims = {"num_cpus": 0.5, "num_gpus": gpus}
    engine = {"kind": "vllm" if full else "hf", "dtype": "float32", "enforce_eager": True, "kv_cache_bytes": 2**26}
    recipe = {
        "name": "self-test",
        "model": {"path": "./policy"},
        "data": {"train": {"kind": "jsonl", "path": "problems.jsonl"}},
        "rollout": {
            "engine": engine,
            "groups_per_step": 2,
            "group_size": 4,
            "max_prompt_tokens": 8,
            "prompt_template": "plain",
            "sampling": {"max_response_tokens": 4},
        },
        "shaping": {
            "rewards": ["numeric_answer"],
            "verifiers": {"num_processes": 1},
            "segments": {"min_length": 2},
            "drop_without_signal": False,
        },
        "learner": {"engine": "deepspeed" if full else "torch", "dtype": "float32", "micro_batch_tokens": 256},
        "run": {"steps": 1, "max_restarts": 0, "max_no_verdict_share": 1.0, "checkpoint": {"every_steps": 0}},
        "cluster": {
            "device": device if full else "cpu",
            "local_cpus": 2,
            "rollout": claims,
            "shaping": {"num_cpus": 0.25},
            "learner": claims,
            "object_store_bytes": 100_000_000,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def _write_policy(folder: Path) -> None:
    """Near-uniform over its words."""
    folder.mkdir()
    generator = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return generator.normal(0.0, 0.02, (rows, columns)).astype(np.float32)

    ones = np.ones(HIDDEN, dtype=np.float32)
    tensors = {"model.embed_tokens.weight": matrix(len(WORDS), HIDDEN), "lm_head.weight": matrix(len(WORDS), HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for part in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"):
            tensors[f"{prefix}.{part}_proj.weight"] = matrix(HIDDEN, HIDDEN)
        for part in ("input", "post_attention"):
            tensors[f"{prefix}.{part}_layernorm.weight"] = ones.copy()
    tensors["model.norm.weight"] = ones.copy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words), encoding="utf-8")
