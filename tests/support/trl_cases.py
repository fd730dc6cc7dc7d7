"""Short runs of the TRL example that keep what reached the loss, and what should have reached it.

Importing this module imports TRL; a test skips before it where TRL is not installed.
"""

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer, Qwen2ForCausalLM

from rollout.arithmetic import make_problem
from shaping.checks import FloatArray
from shaping.less import multipliers


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    found = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    yield
    del sys.modules[package]
    if found is not None:
        sys.modules[package] = found


# TRL imports vLLM wherever it is installed (12 s) and warns of versions that it does not know; these runs use neither.
with _hidden("vllm"):
    from trl import GRPOConfig, GRPOTrainer

    from deploy.examples.trl_less import POLICY, LessGRPOTrainer, is_correct

GROUP_SIZE = 4
PROBLEMS = [make_problem(index) for index in range(16)]
ANSWERS = {problem.problem: problem.answer for problem in PROBLEMS}


def num_characters(completions: list[list[dict[str, str]]], **_: object) -> list[float]:
    """A reward that is no verdict; its weight is 0."""
    return [float(len(turns[0]["content"])) for turns in completions]


class Recording(LessGRPOTrainer):
    """Keeps the rows of every loss, and the weights that sampled them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policies: list[dict[str, torch.Tensor]] = []
        self.losses: list[dict[str, torch.Tensor]] = []

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.policies.append(copy.deepcopy(self.model.state_dict()))
        return super()._generate_and_score_completions(inputs)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages")
        rows = {name: inputs[name].clone() for name in names}
        self.losses.append({**rows, "policy": torch.tensor(len(self.policies) - 1)})
        return super()._compute_loss(model, inputs)


def make_trainer(kind: type[GRPOTrainer], out: Path, *, config: Mapping[str, Any] = {}, **options: Any) -> GRPOTrainer:
    """A trainer of the quickstart policy: groups of 4, 16 rows a generation in 4 losses, 2 losses an optimizer step."""
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "steps_per_generation": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": GROUP_SIZE,
        "reward_weights": [0.0, 1.0],
        "max_completion_length": 64,
        "learning_rate": 1e-3,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    prompts = [{"prompt": [{"role": "user", "content": each.problem}], "answer": each.answer} for each in PROBLEMS]
    return kind(
        str(POLICY),
        [num_characters, is_correct],
        args=GRPOConfig(**{**settings, **config}),
        train_dataset=Dataset.from_list(prompts),
        **options,
    )


def trained_rows(trainer: Recording, generation: int) -> list[dict[str, list[Any]]]:
    """Rows of one generation in the order of the losses: prompt and response ids, and advantages with their padding."""
    return [
        {
            "prompt": rows["prompt_ids"][i][rows["prompt_mask"][i].bool()].tolist(),
            "response": rows["completion_ids"][i][rows["completion_mask"][i].bool()].tolist(),
            "advantages": rows["advantages"][i].tolist(),
        }
        for rows in trainer.losses
        if int(rows["policy"]) == generation
        for i in range(len(rows["advantages"]))
    ]


def expected_advantages(
    rows: list[tuple[list[int], list[int]]], weights: dict[str, torch.Tensor], options: dict[str, Any]
) -> list[FloatArray]:
    """Advantages [T] of each (prompt, completion), in ids: GRPO's of the group times the multipliers of LESS.

    The entropies are those of one plain forward pass a row, in double precision, without padding.
    """
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    policy = Qwen2ForCausalLM.from_pretrained(POLICY).eval()
    policy.load_state_dict(weights)
    groups: dict[str, list[int]] = {}
    for index, (prompt, _) in enumerate(rows):
        groups.setdefault(tokenizer.decode(prompt), []).append(index)
    advantages: dict[int, FloatArray] = {}
    for prompt, members in groups.items():
        (answer,) = (answer for problem, answer in ANSWERS.items() if f"user\n{problem}<" in prompt)
        texts = [tokenizer.decode(rows[index][1]) for index in members]
        correct = np.array([f"\\boxed{{{answer}}}" in text for text in texts])
        assert len(members) == GROUP_SIZE
        base = (correct - correct.mean()) / (correct.std(ddof=1) + 1e-4)
        ids = [np.array(rows[index][1]) for index in members]
        nats = [entropies_of(policy, *rows[index]) for index in members]
        shaped = multipliers(ids, nats, correct, **options)
        advantages.update(
            (index, factor * np.float32(each)) for index, factor, each in zip(members, shaped, base, strict=True)
        )
    return [advantages[index] for index in range(len(rows))]


def entropies_of(policy: Qwen2ForCausalLM, prompt: list[int], response: list[int]) -> FloatArray:
    """[T] float32 nats: the token at position t was drawn from the distribution after t - 1."""
    with torch.inference_mode():
        logits = policy(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].double()
    logprobs = logits.log_softmax(-1)
    return (-(logprobs.exp() * logprobs).sum(-1)).float().numpy()
