"""A group played through a rollout plan: rounds asked for, scored by the test, closed and remembered."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rollout.plans.base import FinishedRound, RolloutPlan, Round
from shaping.components import ComponentSpec, load
from shaping.memories.base import PromptMemory
from shaping.records import Message, Prompt


def make_plan(kind: str, *, group_size: int, **options: Any) -> RolloutPlan:
    plan: RolloutPlan = load("rollout.plans", ComponentSpec(kind=kind, options=options), "rollout.plan").build(
        group_size=group_size
    )
    return plan


def make_stepped_prompt(steps: int | tuple[str, ...] = 5, *, prompt_id: str = "p", answer: str = "42") -> Prompt:
    """A prompt with these solution steps, or s1, s2, ... where a number is given."""
    return Prompt(
        prompt_id=prompt_id,
        messages=(Message(role="user", content="?"),),
        reference_answer=answer,
        position=0,
        solution_steps=tuple(f"s{number}" for number in range(1, steps + 1)) if isinstance(steps, int) else steps,
    )


def finish(planned: Round, num_correct: int, *, num_decided: int | None = None) -> FinishedRound:
    """A round with a reward of 1 for each correct rollout, 0 for the others that were decided."""
    decided = planned.num_rollouts if num_decided is None else num_decided
    rewards = np.array([1.0] * num_correct + [0.0] * (decided - num_correct), dtype=np.float32)
    return FinishedRound(round=planned, rewards=rewards, num_correct=num_correct)


def play_group(
    plan: RolloutPlan,
    prompt: Prompt,
    num_correct: Callable[[Round], int],
    *,
    recalled: Mapping[str, float] | None = None,
) -> tuple[FinishedRound, ...]:
    """All rounds of a group."""
    finished: list[FinishedRound] = []
    while (planned := plan.next_round(prompt, tuple(finished), recalled or {})) is not None:
        finished.append(finish(planned, num_correct(planned)))
    return tuple(finished)


def play_visit(
    plan: RolloutPlan, memory: PromptMemory, prompt: Prompt, num_correct: Callable[[Round], int], *, visit: int
) -> tuple[FinishedRound, ...]:
    """A group with what is remembered of the prompt, which then remembers what the group taught."""
    known = memory.read(prompt.prompt_id)
    finished = play_group(plan, prompt, num_correct, recalled=known)
    memory.write(prompt.prompt_id, visit, {**known, **plan.close(prompt, finished)})
    return finished
