"""LESS inside TRL: a GRPOTrainer whose advantages are shaped per token, and a short run of it on a CPU.

    python deploy/examples/trl_less.py --steps 8

Flow: TRL samples groups and scores them -> one more forward pass of the policy that sampled gives every token's entropy
-> `shaping.less` makes multipliers of ids, entropies and verdicts -> advantages [B, T] -> TRL shuffles, splits, trains.
All of it happens before a row moves or a weight changes, so nothing is aligned afterwards. The hooks were read in the
source of TRL 1.16; `docs/elsewhere.md` says what any other trainer must supply.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rollout.arithmetic import make_problem
from shaping.less import LessOptions, batch_multipliers
from shaping.rewards.math_answer import grade

POLICY = Path(__file__).resolve().parents[1] / "quickstart" / "policy"

REQUIRED = (
    ("temperature", 1.0, "TRL's entropies are those at the sampling temperature, LESS reads them at 1"),
    ("importance_sampling_level", "token", "one ratio per response gives all its tokens one and the same weight"),
    ("top_entropy_quantile", 1.0, "80/20 drops the low-entropy tokens that LESS weighs"),
)
"""Settings of GRPOConfig that LESS cannot do without: name, value, why."""


class LessGRPOTrainer(GRPOTrainer):
    """GRPO with LESS; losses, reward scaling, batch splits and evaluation stay TRL's. Text only, no tools.

    Args:
        correctness: name of the reward function that says which completions are correct: 1, 0, or None for no verdict.
            A completion without a verdict is not trained and takes no part in the shaping of its group.
        less: options of the rule. In mode "compat" the order of responses is that in which they were sampled.
        *args, **kwargs: those of GRPOTrainer.
    Raises:
        ValueError: a setting that contradicts LESS, or no reward function of that name.
    """

    def __init__(self, *args: Any, correctness: str, less: LessOptions | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, wanted, why in REQUIRED:
            if (found := getattr(self.args, name)) != wanted:
                raise ValueError(f"GRPOConfig.{name} must be {wanted!r} with LESS, got {found!r}: {why}")
        if self.reward_func_names.count(correctness) != 1:
            raise ValueError(f"correctness must name one of reward_funcs {self.reward_func_names}, got {correctness!r}")
        self._correctness = self.reward_func_names.index(correctness)
        self._less = less or LessOptions()

    def _calculate_rewards(self, *args: Any) -> torch.Tensor:
        # One row per completion of all processes: TRL gathers here, since a group may be spread over processes.
        rewards = super()._calculate_rewards(*args)
        self._verdicts = rewards[:, self._correctness].tolist()
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        foreign = batch.keys() & {"tool_mask", "num_images"}
        if foreign:
            raise ValueError(f"with LESS every token must be text of the policy, got {sorted(foreign)} in the batch")
        if self.model.training:
            batch["advantages"] = batch["advantages"].unsqueeze(1) * self._multipliers(batch)
        return batch

    def _multipliers(self, batch: dict[str, Any]) -> torch.Tensor:
        """[B, T] float32 for the completions of this process; 0 on padding."""
        mask = batch["completion_mask"]
        with torch.no_grad():
            _, entropies, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                torch.cat([batch["prompt_mask"], mask], dim=1),
                mask.size(1),
                batch_size=self.args.per_device_train_batch_size,
                compute_entropy=True,
            )
        ids, nats = batch["completion_ids"].cpu().numpy(), entropies.cpu().numpy()
        rows = [(ids[row, :length], nats[row, :length]) for row, length in enumerate(mask.sum(dim=1).tolist())]
        first = self.accelerator.process_index * len(rows)
        shaped = shape_rows(gather_object(rows), self._verdicts, group_size=self.num_generations, options=self._less)
        multipliers = np.zeros(mask.shape, np.float32)
        for row, values in enumerate(shaped[first : first + len(rows)]):
            multipliers[row, : len(values)] = values
        self._metrics["train"]["less/multiplier"].append(float(multipliers.sum() / mask.sum().item()))
        return torch.from_numpy(multipliers).to(mask.device)


def shape_rows(
    rows: list[tuple[np.ndarray, np.ndarray]], verdicts: list[float], *, group_size: int, options: LessOptions
) -> list[np.ndarray]:
    """Multipliers [T] float32 of each completion; 0 where it has no verdict.

    Args:
        rows: ids [T] and entropies [T] of each completion; every `group_size` consecutive ones are a group.
        verdicts: 1 correct, 0 wrong, NaN none.
    """
    decided, correct = ~np.isnan(verdicts), np.asarray(verdicts) == 1
    if other := {verdict for verdict in verdicts if verdict not in (0, 1) and not math.isnan(verdict)}:
        raise ValueError(f"the reward function named by `correctness` must give 1, 0 or None, got {sorted(other)}")
    members = [kept for each in np.arange(len(rows)).reshape(-1, group_size) if len(kept := each[decided[each]])]
    groups = [([rows[i][0] for i in kept], [rows[i][1] for i in kept], correct[kept]) for kept in members]
    shaped = [np.zeros(len(ids), np.float32) for ids, _ in rows]
    for kept, multipliers in zip(members, batch_multipliers(groups, options), strict=True):
        for i, values in zip(kept, multipliers, strict=True):
            shaped[i] = values
    return shaped


def is_correct(completions: list[list[dict[str, str]]], answer: list[str], **_: object) -> list[float | None]:
    """Whether the last boxed answer equals the reference; None where that cannot be decided."""
    found = [grade(turns[0]["content"], wanted) for turns, wanted in zip(completions, answer, strict=True)]
    return [float(verdict.correct) if verdict.is_decided else None for verdict in found]


def main(arguments: list[str] | None = None) -> None:
    """Command line: trains the quickstart policy on its arithmetic. None reads the process's arguments."""
    parser = argparse.ArgumentParser(description="Train the quickstart policy with TRL's GRPO and LESS, on a CPU.")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps, of 16 prompts with 8 completions each")
    options = parser.parse_args(arguments)
    problems = [make_problem(index) for index in range(16 * options.steps)]
    config = GRPOConfig(
        output_dir="runs/trl_less",
        max_steps=options.steps,
        per_device_train_batch_size=64,
        gradient_accumulation_steps=2,
        num_generations=8,
        max_completion_length=128,
        learning_rate=1e-4,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
    )
    rows = [{"prompt": [{"role": "user", "content": each.problem}], "answer": each.answer} for each in problems]
    trainer = LessGRPOTrainer(
        str(POLICY), is_correct, correctness="is_correct", args=config, train_dataset=Dataset.from_list(rows)
    )
    trainer.train()


if __name__ == "__main__":
    main()
