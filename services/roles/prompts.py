"""The orchestrator's own part: prompts, their order, and the groups that are opened from them."""

import dataclasses
import logging
from collections import Counter
from itertools import islice

from rollout.plans.base import RolloutPlan
from rollout.prompts import PromptStream
from rollout.render import Renderer, load_renderer
from rollout.requests import GroupFactory
from rollout.selectors.base import PromptSelector
from rollout.sources.base import PromptSource
from services.evaluation.benchmarks import Choices, load_set, parse_benchmarks
from services.evaluation.evaluation_set import EvaluationSet
from services.recipe import Recipe
from services.schedules import sampling_at
from shaping.components import ComponentSpec, load
from shaping.errors import DataError
from shaping.memories.base import PromptMemory
from shaping.pipeline import ShapingPipeline
from shaping.records import Prompt, Sampling

HELD_OUT = "held_out"


def build_renderer(recipe: Recipe) -> Renderer:
    """The renderer of a run's tokenizer."""
    return load_renderer(
        recipe.model.path,
        template=recipe.rollout.prompt_template,
        max_prompt_tokens=recipe.rollout.max_prompt_tokens,
    )


def build_factory(recipe: Recipe, renderer: Renderer) -> GroupFactory:
    """Opens the groups of a run.

    Raises:
        DataError: the data cannot be read, or no prompt fits.
    """
    return make_factory(recipe, renderer, load("rollout.sources", recipe.data.train, "data.train").build())


def make_factory(recipe: Recipe, renderer: Renderer, source: PromptSource) -> GroupFactory:
    """Opens the groups of a run over these prompts.

    Raises:
        DataError: the rollout plan refuses a prompt, or none fits.
    """
    rollout = recipe.rollout
    _tell_left_out(source, "data.train")
    plan: RolloutPlan = load("rollout.plans", rollout.plan, "rollout.plan").build(group_size=rollout.group_size)
    selector: PromptSelector = load("rollout.selectors", rollout.selector, "rollout.selector").build(
        num_prompts=len(source), seed=recipe.seed
    )
    renderer.check_turns(map(source.prompt, range(len(source))))
    has_hints = _check_plan(source, plan, rollout.plan.kind)

    def fits(prompt: Prompt) -> bool:
        return renderer.fits(prompt, hint=plan.longest_hint(prompt))

    whose = "a prompt with its longest hint" if has_hints else "a prompt"
    rule = f"{whose} must have at most {rollout.max_prompt_tokens} tokens"
    if not any(fits(source.prompt(index)) for index in range(len(source))):
        raise DataError(
            f"{rule}, all {len(source)} have more (data.train): raise rollout.max_prompt_tokens or use other data"
        )
    stream = PromptStream(source, selector, accept=fits, accept_rule=f"{rule} (rollout.max_prompt_tokens)")
    memory: PromptMemory = load("shaping.memories", rollout.memory, "rollout.memory").build()
    return GroupFactory(
        stream=stream,
        renderer=renderer,
        plan=plan,
        memory=memory,
        sampling_at=sampling_at(rollout.sampling),
        seed=recipe.seed,
    )


def _check_plan(source: PromptSource, plan: RolloutPlan, kind: str) -> bool:
    """Whether the plan may give hints.

    Raises:
        DataError: a prompt that the plan refuses.
    """
    refused, has_hints = [], False
    for prompt in map(source.prompt, range(len(source))):
        if why := plan.refusal(prompt):
            refused.append(f"{why} (prompt {prompt.prompt_id}")
        has_hints = has_hints or bool(plan.longest_hint(prompt))
    if refused:
        more = f", and {len(refused) - 1} more of {len(source)}" if len(refused) > 1 else ""
        raise DataError(
            f"{refused[0]}{more}, data.train): leave such rows out, or set without_steps: plain "
            f"for rounds without hints (rollout.plan.{kind})"
        )
    return has_hints


def evaluation_sets(recipe: Recipe, renderer: Renderer) -> tuple[EvaluationSet, ...]:
    """What the run evaluates: its held-out problems, judged by its own reward, then the benchmarks.

    Raises:
        UserError: an unknown benchmark, data that cannot be read, or held-out problems of which none fits.
    """
    wanted = recipe.evaluation
    base = renderer.stop_rules.added_to(sampling_at(recipe.rollout.sampling)(0))
    choices = Choices(num_samples=wanted.num_samples)
    chosen = parse_benchmarks(",".join(wanted.benchmarks)) if wanted.benchmarks else ()
    sets = [_within_limit(load_set(each, data=None, base=base, choices=choices), base) for each in chosen]
    if recipe.data.evaluation is not None:
        held_out = EvaluationSet(
            name=HELD_OUT,
            prompts=tuple(_held_out_prompts(recipe, renderer, recipe.data.evaluation)),
            sampling=dataclasses.replace(base, temperature=wanted.temperature),
            num_samples=wanted.num_samples or 1,
            reward=ShapingPipeline(recipe.shaping).measuring_reward,
        )
        sets.insert(0, held_out)
    return tuple(sets)


def _tell_left_out(source: PromptSource, key: str) -> None:
    for rule, count in Counter(row.rule for row in source.skipped_rows).items():
        logging.getLogger(__name__).warning("lessrl: note: %d rows of %s are left out: %s", count, key, rule)


def _within_limit(asked: EvaluationSet, base: Sampling) -> EvaluationSet:
    """The run's engines hold no longer responses than the run's."""
    limit = min(asked.sampling.max_response_tokens, base.max_response_tokens)
    return dataclasses.replace(asked, sampling=dataclasses.replace(asked.sampling, max_response_tokens=limit))


def _held_out_prompts(recipe: Recipe, renderer: Renderer, spec: ComponentSpec) -> list[Prompt]:
    """The first that fit.

    Raises:
        DataError: none fits.
    """
    source: PromptSource = load("rollout.sources", spec, "data.evaluation").build()
    _tell_left_out(source, "data.evaluation")
    fitting = (prompt for prompt in map(source.prompt, range(len(source))) if renderer.fits(prompt))
    chosen = list(islice(fitting, recipe.evaluation.num_problems))
    if not chosen:
        limit = recipe.rollout.max_prompt_tokens
        raise DataError(f"no held-out prompt has at most {limit} tokens (data.evaluation): raise max_prompt_tokens")
    return chosen
