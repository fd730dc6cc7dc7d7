"""TRL's GRPOTrainer on the quickstart task: appends a line to a file after each step, until it is ended.

Runs in TRL's own environment; of this project it imports the task and the reward. `tests.benchmarks.loop` starts it as
a module, with what both sides have in common as JSON.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rollout.arithmetic import make_problem
from shaping.rewards.math_answer import grade

NUM_PROBLEMS = 4096
"""As many as the task has by default on our side; in the same order, without an end."""


class StepLines(TrainerCallback):
    """Appends the tokens trained so far, prompts included, after each step."""

    def __init__(self, lines: str) -> None:
        self._lines = Path(lines)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        with self._lines.open("a") as file:
            file.write(f"{state.num_input_tokens_seen}\n")


def is_correct(completions: list[list[dict[str, str]]], answer: list[str], **_: object) -> list[float]:
    """The reward of the quickstart recipe."""
    pairs = zip(completions, answer, strict=True)
    return [float(grade(turns[0]["content"], wanted).correct) for turns, wanted in pairs]


def make_config(task: dict[str, Any], output_dir: str) -> GRPOConfig:
    """The quickstart recipe in TRL's words: one update a step on all samples, loss per token, no KL term."""
    return GRPOConfig(
        output_dir=output_dir,
        max_steps=task["max_steps"],
        per_device_train_batch_size=task["num_groups"] * task["group_size"] // task["num_micro_batches"],
        gradient_accumulation_steps=task["num_micro_batches"],
        num_generations=task["group_size"],
        max_completion_length=task["max_response_tokens"],
        temperature=1.0,
        shuffle_dataset=False,
        loss_type="dapo",
        beta=0.0,
        epsilon=0.2,
        epsilon_high=0.28,
        delta=10.0,
        learning_rate=task["learning_rate"],
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["num_threads"])
    problems = [make_problem(index) for index in range(NUM_PROBLEMS)]
    rows = [{"prompt": [{"role": "user", "content": each.problem}], "answer": each.answer} for each in problems]
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = GRPOTrainer(
            task["model_path"],
            is_correct,
            args=make_config(task, output_dir),
            train_dataset=Dataset.from_list(rows),
            callbacks=[StepLines(task["lines"])],
        )
        trainer.train()


if __name__ == "__main__":
    main()
