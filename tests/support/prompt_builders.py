"""Prompts, a renderer without a tokenizer's files, and the stream and factory of a run over them."""

from collections.abc import Callable
from typing import Any

from rollout.plans.base import RolloutPlan
from rollout.plans.single_round import SingleRoundPlan
from rollout.prompts import PromptStream
from rollout.render import Renderer
from rollout.requests import GroupFactory
from rollout.rows import LoadedPrompts
from rollout.selectors.base import PromptSelector
from rollout.selectors.sequential import SequentialSelector
from shaping.memories.base import PromptMemory
from shaping.memories.last_values import LastValues
from shaping.records import Message, Prompt, Sampling


def make_prompts(number: int, *, steps: tuple[str, ...] = ()) -> tuple[Prompt, ...]:
    """p0, p1, ...: each asks for its own number."""
    return tuple(
        Prompt(
            prompt_id=f"p{index}",
            messages=(Message(role="user", content=f"say {index}"),),
            reference_answer=str(index),
            position=index,
            solution_steps=steps,
        )
        for index in range(number)
    )


def spell(text: str, *, add_special_tokens: bool) -> dict[str, Any]:
    """A tokenizer of characters."""
    del add_special_tokens
    return {"input_ids": [ord(each) for each in text]}


def make_renderer(max_prompt_tokens: int = 32) -> Renderer:
    return Renderer(spell, template="plain", max_prompt_tokens=max_prompt_tokens)


def make_factory(
    *,
    num_prompts: int = 50,
    plan: RolloutPlan | None = None,
    group_size: int = 2,
    memory: PromptMemory | None = None,
    selector: PromptSelector | None = None,
    sampling_at: Callable[[int], Sampling] | None = None,
    solution_steps: tuple[str, ...] = (),
    seed: int = 0,
) -> GroupFactory:
    """Prompts in order, one round a group, a fixed temperature, unless told otherwise."""
    prompts = make_prompts(num_prompts, steps=solution_steps)
    source = LoadedPrompts(prompts=prompts, has_solution_steps=bool(solution_steps), skipped_rows=())
    return GroupFactory(
        stream=PromptStream(source, selector or SequentialSelector(num_prompts)),
        renderer=make_renderer(),
        plan=plan or SingleRoundPlan(group_size),
        memory=memory or LastValues(),
        sampling_at=sampling_at or (lambda _: Sampling(max_response_tokens=8)),
        seed=seed,
    )
