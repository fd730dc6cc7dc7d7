"""A run plan as a person reads it."""

import textwrap
from collections.abc import Iterable

from services.plan import RunPlan

WIDTH = 120
AT_CAP = {"train_smaller": "trains what it has", "wait": "says so and goes on", "stop": "ends the run"}


def plan_text(plan: RunPlan) -> str:
    """Lines of at most 120 characters."""
    rows = [
        (
            "a step",
            f"{plan.groups_per_step} groups x {plan.group_size} = {plan.rollouts_per_step} responses, "
            f"at most {plan.max_response_tokens_per_step:,} response tokens",
        ),
        (
            "an update",
            f"{plan.groups_per_step // plan.mini_batches_per_step} groups; updates in a step: {plan.updates_per_step}, "
            f"in the run: {plan.updates_total}; forward passes of at most {plan.micro_batch_tokens:,} tokens",
        ),
        ("a sequence", f"at most {plan.max_sequence_tokens:,} tokens (prompt and response)"),
        ("staleness", f"at most {plan.max_age_versions} versions: {_staleness(plan)}"),
        (
            "groups",
            f"at most {plan.max_groups_in_system} generated or waiting at a time, "
            f"{plan.max_attempts_per_step} sampled for one step before it {AT_CAP[plan.at_attempt_cap]}",
        ),
        (
            "actors",
            f"{plan.num_rollout_workers} rollout, {plan.num_shaping_workers} shaping, "
            f"{plan.num_learner_ranks} learner ranks; {plan.total_cpus:g} CPUs, {plan.total_gpus:g} GPUs",
        ),
        (
            "memory",
            f"{bytes_text(plan.rollout_weight_bytes)} of weights per rollout GPU or process, "
            f"{bytes_text(plan.learner_state_bytes)} of parameters, gradients and optimizer per learner rank "
            f"({_parameters(plan)})",
        ),
        ("prompts", f"template {plan.prompt_template}; a response ends with {_ends(plan.response_ends)}"),
        ("verdicts", _verdicts(plan)),
        ("evaluation", _evaluation(plan)),
        ("signals", ", ".join(plan.signals) or "none"),
        *(("note", warning) for warning in plan.warnings),
    ]
    return f"{plan.name}: {plan.steps} steps\n{rows_text(rows)}"


def rows_text(rows: Iterable[tuple[str, str]]) -> str:
    """Lines of at most 120 characters, one or more for each name and what is said of it."""
    lines: list[str] = []
    for name, words in rows:
        first, rest = f"  {name:<11} ", " " * 14
        lines += textwrap.wrap(words, width=WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)
    return "\n".join(lines)


def _ends(response_ends: tuple[str, ...] | None) -> str:
    if response_ends is None:
        return "what the tokenizer says once it is loaded"
    return " or ".join((*map(repr, response_ends), "the model's own end tokens"))


def _verdicts(plan: RunPlan) -> str:
    if not plan.verifiers.num_processes:
        return "in the shaping process, without a deadline"
    processes = f"{plan.verifiers.num_processes} killable processes per shaping actor"
    return f"by {processes}, at most {plan.verifiers.call_seconds:g} s each"


def _evaluation(plan: RunPlan) -> str:
    if not plan.evaluated:
        return "none"
    every, lent = plan.evaluation.every_steps, plan.evaluation.num_workers
    often = f", every {every} steps" if every else ""
    how = f"beside training on {lent} lent engines" if lent else "training waits"
    return f"{', '.join(plan.evaluated)}: before the first step{often} and after the last; {how}"


def _parameters(plan: RunPlan) -> str:
    if plan.num_trained_parameters == plan.num_parameters:
        return f"{_count(plan.num_parameters)} parameters"
    return f"{_count(plan.num_parameters)} parameters, {_count(plan.num_trained_parameters)} in adapters train"


def _staleness(plan: RunPlan) -> str:
    carried = f"groups that {plan.admission} leaves over open the next step" * (
        plan.max_age_versions > plan.max_staleness
    )
    if plan.max_staleness:
        return "; ".join(filter(None, ("generation goes on while the learner trains", carried)))
    return f"{carried}; none is sampled while the learner trains" if carried else "synchronous, the exact mode"


def bytes_text(number: int | None) -> str:
    """A size in the unit that a person would choose."""
    if number is None:
        return "unknown size"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


def _count(number: int | None) -> str:
    if number is None:
        return "unknown number of"
    return f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.2f}M"
