"""The orchestrator's own part: prompts, their order, and the groups that are opened from them."""

from rollout.plans.base import RolloutPlan
from rollout.prompts import PromptStream
from rollout.render import Renderer, load_renderer
from rollout.requests import GroupFactory
from rollout.selectors.base import PromptSelector
from rollout.sources.base import PromptSource
from services.recipe import Recipe
from services.schedules import sampling_at
from shaping.components import load
from shaping.errors import DataError
from shaping.memories.base import PromptMemory
from shaping.records import Prompt


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
        DataError: no prompt fits.
    """
    rollout = recipe.rollout
    selector: PromptSelector = load("rollout.selectors", rollout.selector, "rollout.selector").build(
        num_prompts=len(source), seed=recipe.seed
    )
    if not any(renderer.fits(source.prompt(index)) for index in range(len(source))):
        raise DataError(
            f"a prompt must have at most {rollout.max_prompt_tokens} tokens, all {len(source)} have more (data.train): "
            "raise rollout.max_prompt_tokens or use other data"
        )
    stream = PromptStream(
        source,
        selector,
        accept=renderer.fits,
        accept_rule=f"a prompt must have at most {rollout.max_prompt_tokens} tokens (rollout.max_prompt_tokens)",
    )
    plan: RolloutPlan = load("rollout.plans", rollout.plan, "rollout.plan").build(group_size=rollout.group_size)
    memory: PromptMemory = load("shaping.memories", rollout.memory, "rollout.memory").build()
    return GroupFactory(
        stream=stream,
        renderer=renderer,
        plan=plan,
        memory=memory,
        sampling_at=sampling_at(rollout.sampling),
        seed=recipe.seed,
    )


def evaluation_prompts(recipe: Recipe, renderer: Renderer) -> list[Prompt]:
    """The first held-out problems that fit; empty without an evaluation source.

    Raises:
        DataError: there is a source, but none of its prompts fits.
    """
    if recipe.data.evaluation is None:
        return []
    source: PromptSource = load("rollout.sources", recipe.data.evaluation, "data.evaluation").build()
    chosen: list[Prompt] = []
    for index in range(len(source)):
        if len(chosen) == recipe.evaluation.num_problems:
            break
        prompt = source.prompt(index)
        if renderer.fits(prompt):
            chosen.append(prompt)
    if not chosen:
        limit = recipe.rollout.max_prompt_tokens
        raise DataError(f"no held-out prompt has at most {limit} tokens (data.evaluation): raise max_prompt_tokens")
    return chosen
