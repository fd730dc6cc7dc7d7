"""Every reason in a recipe itself why a run cannot work: values that contradict one another, signals nobody supplies.

Knows no model and no machine; what a recipe means in figures is the business of services/plan.py.
"""

from services.buffer_plan import buffer_config
from services.evaluation.benchmarks import parse_benchmarks
from services.metrics.entries import catalogue
from services.plugins import check_conflicts
from services.recipe import Recipe
from shaping.components import Component
from shaping.errors import RecipeError
from shaping.pipeline import ShapingPipeline
from shaping.records import EntropySource
from shaping.scheduling import schedule_of
from shaping.signals import Signal

ACCURACY = "accuracy"

SIGNAL_REMEDIES = {
    Signal.RAW_ENTROPIES: "set rollout.sampling.entropy_source to raw",
    Signal.PROCESSED_ENTROPIES: "set rollout.sampling.entropy_source to processed",
    Signal.REFERENCE_LOGPROBS: "set learner.kl.coefficient above 0",
    Signal.SOLUTION_STEPS: "use a data.train source with solution steps",
}


def check_recipe(recipe: Recipe, components: dict[str, Component]) -> tuple[frozenset[Signal], tuple[str, ...]]:
    """Everything here.

    Args:
        components: the recipe's plug-ins by key.
    Returns:
        The signals that they need, and what `run.force` lets pass, as warnings.
    Raises:
        RecipeError: the first reason why the recipe cannot work.
    """
    ShapingPipeline(recipe.shaping)
    check_schedules(recipe)
    check_divisions(recipe)
    # Only the plan knows which sizes it can divide a group into.
    components["rollout.plan"].build(group_size=recipe.rollout.group_size)
    needed = check_signals(recipe, components)
    forced = check_conflicts(recipe)
    check_best(recipe)
    check_evaluation(recipe)
    check_time_limits(recipe, components)
    return needed, forced


def check_schedules(recipe: Recipe) -> None:
    """A temperature must stay above 0 in every step, and be the same for all groups of a batch."""
    key = "rollout.sampling.temperature"
    temperature = schedule_of(recipe.rollout.sampling.temperature, key)
    values = [temperature.value(step) for step in range(recipe.run.steps)]
    for step, value in enumerate(values):
        if value <= 0:
            raise RecipeError(f"temperature must be > 0, got {value:g} at step {step} ({key})")
    if len(set(values)) > 1 and buffer_config(recipe).max_age_versions:
        raise RecipeError(
            f"a temperature that changes needs run.max_staleness 0, got {recipe.run.max_staleness}, and run.admission "
            f"without surplus, got {recipe.run.admission.kind}: the learner would score groups at another temperature "
            f"than they were sampled at ({key})"
        )


def check_best(recipe: Recipe) -> None:
    """The best checkpoint must be judged by a number that is there."""
    name = recipe.run.checkpoint.keep_best
    if name == ACCURACY and not (recipe.data.evaluation or recipe.evaluation.benchmarks):
        raise RecipeError(
            f"keep_best {ACCURACY} needs held-out problems: give data.evaluation or evaluation.benchmarks "
            "(run.checkpoint.keep_best)"
        )
    if name == ACCURACY and recipe.evaluation.num_workers:
        raise RecipeError(
            f"keep_best {ACCURACY} needs it when the checkpoint is taken, got evaluations beside training; set "
            "evaluation.num_workers to 0 (run.checkpoint.keep_best)"
        )
    if name not in ("", ACCURACY) and catalogue().unknown([name]):
        raise RecipeError(
            f"keep_best must be {ACCURACY} or a metric of the catalogue, got {name!r}; for example reward_total_value "
            "(run.checkpoint.keep_best)"
        )


def check_evaluation(recipe: Recipe) -> None:
    """An engine that is lent must leave one that trains."""
    lent, engines = recipe.evaluation.num_workers, recipe.rollout.num_workers
    if lent >= engines and lent:
        raise RecipeError(
            f"evaluation.num_workers must be < rollout.num_workers, got {lent} and {engines}: training needs an engine "
            "too; add a rollout worker, or set it to 0 to let training wait (evaluation.num_workers)"
        )
    if recipe.evaluation.benchmarks:
        parse_benchmarks(",".join(recipe.evaluation.benchmarks))


def check_time_limits(recipe: Recipe, components: dict[str, Component]) -> None:
    """A reward that times what it runs must come to its verdict before its own process is killed."""
    verifiers = recipe.shaping.verifiers
    for key, component in components.items():
        seconds = getattr(component.config, "timeout_seconds", 0.0)
        if key.startswith("shaping.rewards") and verifiers.num_processes and seconds >= verifiers.call_seconds:
            raise RecipeError(
                f"timeout_seconds must be < shaping.verifiers.call_seconds, got {seconds:g} and "
                f"{verifiers.call_seconds:g}: a program that hangs would get no verdict; raise "
                f"shaping.verifiers.call_seconds ({key})"
            )


def check_divisions(recipe: Recipe) -> None:
    """Sizes that must divide one another, and what the torch learner cannot do."""
    groups, mini = recipe.rollout.groups_per_step, recipe.learner.mini_batch_groups
    if mini and groups % mini:
        raise RecipeError(
            f"learner.mini_batch_groups must divide rollout.groups_per_step, got {mini} and {groups}; "
            f"try {_nearest_divisor(groups, mini)} (learner.mini_batch_groups)"
        )
    if recipe.learner.engine == "torch" and recipe.learner.num_ranks != 1:
        raise RecipeError(
            f"learner.engine torch runs in one process, got num_ranks {recipe.learner.num_ranks}; "
            "use deepspeed or num_ranks 1 (learner.num_ranks)"
        )
    if recipe.learner.engine == "torch" and recipe.learner.dtype != "float32":
        raise RecipeError(
            f"learner.engine torch trains in float32, got {recipe.learner.dtype}; "
            "set learner.dtype to float32 (learner.dtype)"
        )


def check_signals(recipe: Recipe, components: dict[str, Component]) -> frozenset[Signal]:
    """Every needed signal must be supplied.

    Returns:
        The union of what is needed.
    """
    supplied = supplied_signals(recipe, components)
    for key, component in components.items():
        for signal in sorted(component.needs - supplied):
            remedy = SIGNAL_REMEDIES.get(signal, "choose another kind")
            raise RecipeError(f"{component.kind} needs {signal.value}, which nothing supplies; {remedy} ({key})")
    return frozenset().union(*(component.needs for component in components.values()))


def supplied_signals(recipe: Recipe, components: dict[str, Component]) -> frozenset[Signal]:
    """What this run can supply. A source's file says with `supplies_steps(config)` whether it has solution steps."""
    signals = {
        Signal.BEHAVIOR_LOGPROBS,
        Signal.VERDICTS,
        Signal.POLICY_LOGPROBS,
        Signal.POLICY_ENTROPIES,
        Signal.DIFFERENTIABLE_ENTROPIES,
        Signal.UPDATE_ENTROPY,
        Signal.TOKEN_TEXT,
    }
    is_raw = recipe.rollout.sampling.entropy_source is EntropySource.RAW
    signals.add(Signal.RAW_ENTROPIES if is_raw else Signal.PROCESSED_ENTROPIES)
    if recipe.learner.kl.coefficient:
        signals.add(Signal.REFERENCE_LOGPROBS)
    train = components["data.train"]
    if getattr(train.module, "supplies_steps", lambda _config: False)(train.config):
        signals.add(Signal.SOLUTION_STEPS)
    return frozenset(signals)


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = [each for each in range(1, number + 1) if number % each == 0]
    return min(divisors, key=lambda each: (abs(each - wanted), each))
