"""The plug-ins that a recipe names: found by key, loaded, and checked against one another.

Knows no figures of a run. The only place that decides which plug-ins may run together.
"""

import importlib.util
from collections.abc import Iterator
from itertools import permutations
from typing import Any

from services.recipe import Recipe
from shaping.components import Component, ComponentSpec, check_kind, declared_conflicts, load
from shaping.config import RewardConfig
from shaping.errors import RecipeError

LOGGERS = "services.loggers"


def named_plugins(recipe: Recipe) -> Iterator[tuple[str, str, ComponentSpec]]:
    """Recipe key, folder and spec of every plug-in, in the order of a step."""
    shaping, rollout, learner = recipe.shaping, recipe.rollout, recipe.learner
    for key, reward in _keyed("shaping.rewards", shaping.rewards):
        assert isinstance(reward, RewardConfig)
        yield key, "shaping.rewards", ComponentSpec(kind=reward.kind, options=dict(reward.options))
    for key, spec in _keyed("shaping.transforms", shaping.transforms):
        yield key, "shaping.transforms", spec
    yield "shaping.estimator", "shaping.estimators", shaping.estimator
    for key, spec in _keyed("shaping.shapers", shaping.shapers):
        yield key, "shaping.shapers", spec
    yield "data.train", "rollout.sources", recipe.data.train
    if recipe.data.evaluation:
        yield "data.evaluation", "rollout.sources", recipe.data.evaluation
    yield "rollout.prompt_template", "rollout.templates", rollout.prompt_template
    yield "rollout.plan", "rollout.plans", rollout.plan
    yield "rollout.selector", "rollout.selectors", rollout.selector
    yield "rollout.memory", "shaping.memories", rollout.memory
    schedules = {
        "rollout.sampling.temperature": rollout.sampling.temperature,
        "learner.optimizer.learning_rate": learner.optimizer.learning_rate,
    }
    for key, value in schedules.items():
        if isinstance(value, ComponentSpec):
            yield key, "shaping.schedules", value
    yield "learner.loss", "learner.losses", learner.loss
    for key, spec in _keyed("learner.token_plans", learner.token_plans):
        yield key, "learner.token_plans", spec
    for key, spec in _keyed("learner.regularisers", learner.regularisers):
        yield key, "learner.regularisers", spec
    yield "run.admission", "rollout.admissions", recipe.run.admission
    for key, spec in _keyed("run.loggers", recipe.run.loggers):
        yield key, LOGGERS, spec


def _keyed(key: str, items: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for index, item in enumerate(items):
        yield f"{key}[{index}]", item


def load_plugins(recipe: Recipe, *, with_torch: bool = True) -> dict[str, Component]:
    """Every plug-in by its recipe key, options checked; those of the learner only with torch, their kinds always.

    Raises:
        RecipeError: an unknown kind or option, or a value that its kind refuses.
    """
    has_torch = with_torch and importlib.util.find_spec("torch") is not None
    loaded = {}
    for key, folder, spec in named_plugins(recipe):
        check_kind(folder, spec.kind, key)
        if has_torch or not folder.startswith("learner."):
            loaded[key] = load(folder, spec, key)
    return loaded


def loaded_loggers(recipe: Recipe) -> dict[str, Component]:
    """The loggers of a run by recipe key, options checked; their libraries are not imported.

    Raises:
        RecipeError: an unknown kind or option, or a value that its kind refuses.
    """
    return {key: load(folder, spec, key) for key, folder, spec in named_plugins(recipe) if folder == LOGGERS}


def check_loggers(recipe: Recipe) -> None:
    """Refuse a logger whose library is not installed: for the process that would use it, before anything is started.

    Raises:
        RecipeError: there is one, or as in `loaded_loggers`.
    """
    for key, logger in loaded_loggers(recipe).items():
        if importlib.util.find_spec(logger.module.LIBRARY) is None:
            raise RecipeError(
                f"{logger.kind} must have its library, found no package {logger.module.LIBRARY} here; "
                f"pip install 'lessrl[{logger.kind}]', or remove it ({key})"
            )


def check_conflicts(recipe: Recipe) -> tuple[str, ...]:
    """Refuse plug-ins of which one declares that it contradicts the other, unless `run.force` is set.

    Returns:
        With `run.force`, each such pair and why, as warnings.
    Raises:
        RecipeError: such a pair, without `run.force`.
    """
    named = [(key, spec.kind, declared_conflicts(folder, spec.kind)) for key, folder, spec in named_plugins(recipe)]
    warnings = []
    for (key, kind, conflicts), (other_key, other, _) in permutations(named, 2):
        if other not in conflicts:
            continue
        if not recipe.run.force:
            raise RecipeError(
                f"{kind} ({key}) cannot run with {other} ({other_key}): {conflicts[other]}; "
                "remove one of them, or set run.force to true"
            )
        warnings.append(f"{kind} ({key}) contradicts {other} ({other_key}), forced: {conflicts[other]} (run.force)")
    return tuple(warnings)
