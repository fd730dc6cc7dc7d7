"""Service times out of the files of a run that was made: what its steps took, and how long its responses were."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from services.recipe import Recipe, load_recipe
from services.run_dir import METRICS_FILE, RECIPE_FILE
from services.simulation.service_times import Distribution, Recorded, ServiceTimes
from services.simulation.simulate import simulate
from shaping.errors import DataError, RecipeError

MIN_STEPS = 2
NEEDED = ("rollout_response_tokens", "rollout_response_max_tokens", "learner_tokens")


def recorded_times(run_dir: Path) -> ServiceTimes:
    """Service times of a run, its first step left out.

    Responses are lognormal with the run's mean and typical longest one; training and weight sync are the recorded ones;
    decoding is as fast as makes the simulated run wait for its batches as long as the run did, shaping included.

    Raises:
        DataError: no such files, or too few steps.
        RecipeError: the run was asynchronous: its phases overlap, and say nothing of how long generation took.
    """
    recipe = load_recipe(run_dir / RECIPE_FILE)
    if recipe.run.max_staleness:
        raise RecipeError(
            f"service times are read from a run with run.max_staleness 0, found {recipe.run.max_staleness}: elsewhere "
            f"phases overlap ({run_dir / RECIPE_FILE})"
        )
    steps = _read_steps(run_dir / METRICS_FILE)
    trained = [step for step in steps if step["metrics"].get("learner_tokens")]
    mean = fmean(step["metrics"]["rollout_response_tokens"] for step in trained)
    longest = fmean(step["metrics"]["rollout_response_max_tokens"] for step in trained)
    ended = sum(sum(step["groups"].values()) for step in steps)
    num_rollouts = recipe.rollout.group_size * ended / len(steps)
    times = ServiceTimes(
        response_tokens=Distribution(kind="lognormal", mean=mean, spread=spread_of(longest / mean, num_rollouts)),
        prompt_tokens=_prompt_tokens(trained, recipe.rollout.group_size, mean),
        decode_token_s=1.0,
        shaping_s=Distribution(kind="constant", mean=0.0),
        train_token_s=Recorded(tuple(_per_token(step) for step in trained)),
        transfer_s=Recorded(tuple(step["phase_seconds"]["weight_sync"] for step in steps)),
        commit_s=Distribution(kind="constant", mean=0.0),
        keep_share=sum(step["groups"]["trained"] for step in steps) / ended,
    )
    return replace(times, decode_token_s=_decode_token_s(recipe, times, steps))


def spread_of(longest_over_mean: float, number: float) -> float:
    """Spread of the lognormal distribution whose typical longest of `number` draws is that many times its mean.

    The median of the longest is about the quantile 1 - 1 / (number + 1), at z standard deviations, and is
    exp(spread * z - spread^2 / 2) times the mean; of the two solutions the smaller one.
    """
    z = NormalDist().inv_cdf(1 - 1 / (number + 1))
    return max(0.0, z - math.sqrt(max(0.0, z * z - 2 * math.log(max(1.0, longest_over_mean)))))


def _per_token(step: dict[str, Any]) -> float:
    return float(step["phase_seconds"]["train"] / step["metrics"]["learner_tokens"])


def _prompt_tokens(steps: Sequence[dict[str, Any]], group_size: int, response_tokens: float) -> int:
    """What the learner read of a sample beside its response; a step may train each sample several times."""
    num_samples: int = sum(step["groups"]["trained"] for step in steps) * group_size
    num_tokens: float = sum(step["metrics"]["learner_tokens"] for step in steps)
    return max(1, round(num_tokens / num_samples - response_tokens))


def _decode_token_s(recipe: Recipe, times: ServiceTimes, steps: Sequence[dict[str, Any]]) -> float:
    """Without overlap the wait for a batch is proportional to the time of a token: one simulation gives the factor."""
    no_deadlines = replace(recipe.run.deadlines, group_seconds=math.inf, step_seconds=math.inf)
    run = simulate(
        recipe.model_copy(update={"run": replace(recipe.run, steps=len(steps) + 1, deadlines=no_deadlines)}),
        times,
        num_workers=recipe.rollout.num_workers,
    )
    waited = run.step_s - run.train_s - run.sync_s
    return fmean(step["phase_seconds"]["wait_batch"] for step in steps) / waited


def _read_steps(path: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"a run's directory must hold {METRICS_FILE} as the run wrote it: {error} ({path})") from error
    steps = [line for line in lines if line["kind"] == "step"][1:]
    whole = [step for step in steps if all(step["metrics"].get(name) for name in NEEDED)]
    if len(whole) < MIN_STEPS:
        raise DataError(
            f"service times need {MIN_STEPS} trained steps after the first, with {', '.join(NEEDED)}; found "
            f"{len(whole)} ({path})"
        )
    return steps
