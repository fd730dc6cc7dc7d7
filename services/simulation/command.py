"""`lessrl simulate`: a recipe at several numbers of rollout workers, on a virtual clock."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from services.recipe import Recipe
from services.simulation.recorded import recorded_times
from services.simulation.service_times import Distribution, ServiceTimes
from services.simulation.simulate import simulate
from services.simulation.table import as_dict, as_table, verdict
from shaping.errors import UserError

RESPONSE_SPREAD = 0.6
"""Of assumed response lengths: the typical longest of a hundred is 3.4 times the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateRequest:
    """What to simulate.

    Args:
        workers: numbers of rollout workers, one simulated run each.
        steps: at most; the recipe's own number where that is smaller.
        recorded: directory of a run whose service times are used; None assumes the ones below.
        response_tokens: mean; 0 takes half of the recipe's limit.
        sync_seconds: of a weight sync, in which engines go on decoding.
    """

    workers: tuple[int, ...]
    steps: int
    recorded: Path | None
    response_tokens: float
    decode_tokens_per_s: float
    train_tokens_per_s: float
    sync_seconds: float
    keep_share: float


def simulate_recipe(recipe: Recipe, request: SimulateRequest, console: Console, *, as_json: bool) -> None:
    """Simulate and print.

    Raises:
        UserError: numbers that cannot be, or a directory that no service times can be read from.
    """
    times = assumed_times(recipe, request) if request.recorded is None else recorded_times(request.recorded)
    shorter = recipe.model_copy(update={"run": replace(recipe.run, steps=min(recipe.run.steps, request.steps))})
    runs = [simulate(shorter, times, num_workers=number) for number in request.workers]
    if as_json:
        document = {"service_times": asdict(times), "runs": [as_dict(run) for run in runs]}
        console.print_json(json.dumps(document, allow_nan=False))
        return
    console.print(_title(recipe, times, request), highlight=False)
    console.print(as_table(runs))
    for run in runs:
        console.print(verdict(run), highlight=False)


def parse_workers(text: str) -> tuple[int, ...]:
    """`1,10,100` to numbers.

    Raises:
        UserError: not of that form.
    """
    parts = [each.strip() for each in text.split(",")]
    if not all(each.isdecimal() and int(each) for each in parts):
        raise UserError(f"--workers must be numbers >= 1 with commas between them, got {text!r}")
    return tuple(int(each) for each in parts)


def assumed_times(recipe: Recipe, request: SimulateRequest) -> ServiceTimes:
    """Service times as the request says them: lognormal responses, everything else constant.

    Raises:
        UserError: a number that cannot be.
    """
    for name in ("steps", "decode_tokens_per_s", "train_tokens_per_s"):
        if getattr(request, name) <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be > 0, got {getattr(request, name):g}")
    mean = request.response_tokens or recipe.rollout.sampling.max_response_tokens / 2
    try:
        return ServiceTimes(
            response_tokens=Distribution(kind="lognormal", mean=mean, spread=RESPONSE_SPREAD),
            prompt_tokens=recipe.rollout.max_prompt_tokens,
            decode_token_s=1 / request.decode_tokens_per_s,
            shaping_s=Distribution(kind="constant", mean=0.0),
            train_token_s=Distribution(kind="constant", mean=1 / request.train_tokens_per_s),
            transfer_s=Distribution(kind="constant", mean=request.sync_seconds),
            commit_s=Distribution(kind="constant", mean=0.0),
            keep_share=request.keep_share,
        )
    except ValueError as error:
        raise UserError(f"service times cannot be used: {error}") from error


def _title(recipe: Recipe, times: ServiceTimes, request: SimulateRequest) -> str:
    source = f"service times of {request.recorded}" if request.recorded else "assumed service times"
    groups = f"{recipe.rollout.groups_per_step} groups of {recipe.rollout.group_size} a step"
    return (
        f"{recipe.name}: {groups}, max_staleness {recipe.run.max_staleness}; {source}: "
        f"{1 / times.decode_token_s:.4g} tokens/s per response, {times.keep_share:.0%} of the groups kept"
    )
