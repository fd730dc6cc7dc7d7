"""Prompts of the built-in arithmetic task, made on demand by the generator; nothing is stored."""

from dataclasses import dataclass

from rollout.arithmetic import LEVEL_WEIGHTS, LEVELS, Split, make_problem
from rollout.sources.base import SkippedRow
from shaping.records import Message, Prompt
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which problems.

    Args:
        size: number of problems.
        split: "train" or "held_out"; no expression is in both, under any seed.
        seed: selects the list of problems.
        levels: allowed numbers of operations, from 1 to 7; those above 4 are too hard for the quickstart policy.
    """

    size: int = 4096
    split: Split = Split.TRAIN
    seed: int = 0
    levels: tuple[int, ...] = LEVELS

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be >= 1, got {self.size}")
        if not self.levels or not set(self.levels) <= LEVEL_WEIGHTS.keys():
            raise ValueError(f"levels must be a non-empty part of {[*LEVEL_WEIGHTS]}, got {list(self.levels)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticPrompts:
    """A PromptSource over the generator's list of problems; every prompt has solution steps."""

    config: Config

    @property
    def has_solution_steps(self) -> bool:
        return True

    @property
    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        return ()

    def __len__(self) -> int:
        return self.config.size

    def prompt(self, index: int) -> Prompt:
        """Raises: IndexError: index outside [0, size)."""
        if not 0 <= index < self.config.size:
            raise IndexError(f"index must be in [0, {self.config.size}), got {index}")
        split, seed = self.config.split, self.config.seed
        problem = make_problem(index, split=split, seed=seed, levels=self.config.levels)
        return Prompt(
            prompt_id=f"arithmetic-{split}-{seed}-{index}",
            messages=(Message(role="user", content=problem.problem),),
            reference_answer=problem.answer,
            position=index,
            solution_steps=problem.steps,
        )


def supplies_steps(config: Config) -> bool:
    """Whether its prompts have solution steps: known before the data is read."""
    del config
    return True


def build(config: Config) -> ArithmeticPrompts:
    return ArithmeticPrompts(config=config)
