"""`lessrl replay`: a skipped step once more, and what is wrong with it, in the terminal or as JSON."""

import json
import os
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from rollout.vllm_env import worker_environment
from services.plain_data import plain_data
from services.recipe import Recipe
from services.replay.saved_step import ReplayPolicy, SavedStep, choose_policy, open_step
from shaping.components import import_module_of
from shaping.errors import EngineRefused, RecordError, RunFailed, UserError


class Replay(Protocol):
    """One half of a step, done again."""

    @property
    def is_well(self) -> bool: ...

    def as_dict(self) -> dict[str, Any]: ...

    def print(self, console: Console) -> None: ...


def replay(path: Path, console: Console, *, checkpoint: str, rollout_only: bool, as_json: bool) -> int:
    """Do one half of a step again. Nothing on the disk changes.

    Args:
        path: of a skipped step, or of a run: then its latest one.
        checkpoint: name of one, "start" for the starting policy, or "" for the newest before the step.
        rollout_only: sample its groups again, in place of training them.
    Returns:
        The exit code: 0 where all is finite, or with `rollout_only` the same; 1 where it is not.
    Raises:
        UserError: no step there that can be replayed.
        CheckpointError: the step or the checkpoint is damaged.
    """
    step = open_step(path)
    policy = choose_policy(step, checkpoint)
    if not as_json:
        for line in _heading(step, policy):
            console.print(Text(line), soft_wrap=True)
    try:
        found = _replay_rollout(step, policy) if rollout_only else _replay_learner(step, policy)
    except (EngineRefused, RecordError, RunFailed) as error:
        # A policy that is not finite cannot even sample: that is what was asked for, and no fault of the command.
        return _tell_failure(step, policy, str(error), console, as_json=as_json)
    if as_json:
        _print_json({**_facts(step, policy), **found.as_dict()}, console)
    else:
        found.print(console)
    return 0 if found.is_well else 1


def _replay_learner(step: SavedStep, policy: ReplayPolicy) -> Replay:
    """Imports torch."""
    found: Replay = import_module_of("services.replay", "learner_half").replay_learner(step, policy)
    return found


def _replay_rollout(step: SavedStep, policy: ReplayPolicy) -> Replay:
    """Imports torch, and the engine; vLLM reads its environment when it is imported."""
    recipe = step.recipe
    if recipe.rollout.engine.kind == "vllm":
        os.environ.update(_environment(recipe))
    try:
        found: Replay = import_module_of("services.replay", "rollout_half").replay_rollout(step, policy)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the engine of the run must be installed here, found no module {error.name} (rollout.engine.kind)"
        ) from error
    return found


def _environment(recipe: Recipe) -> dict[str, str]:
    """Of a rollout worker; and the output of our commands is our own."""
    threads, is_offline = recipe.cluster.rollout.num_threads, recipe.model.path.startswith("/")
    environment = worker_environment(recipe.rollout.engine, offline=is_offline, num_threads=threads)
    return environment | {"VLLM_LOGGING_STREAM": "ext://sys.stderr"}


def _facts(step: SavedStep, policy: ReplayPolicy) -> dict[str, Any]:
    return {
        "directory": str(step.directory),
        "step": step.skipped.step,
        "cause": step.skipped.cause,
        "policy": {"checkpoint": policy.name, "version": policy.version, "trained_version": step.trained_version},
    }


def _heading(step: SavedStep, policy: ReplayPolicy) -> tuple[str, ...]:
    against = f"policy: {policy.name}, version {policy.version}"
    if policy.version != step.trained_version:
        against += f", where the run was to train version {step.trained_version}"
    return (
        f"{step.directory}: {len(step.groups)} groups of step {step.skipped.step}",
        f"in the run: {step.skipped.cause}",
        against,
    )


def _tell_failure(step: SavedStep, policy: ReplayPolicy, cause: str, console: Console, *, as_json: bool) -> int:
    if as_json:
        _print_json({**_facts(step, policy), "failure": cause}, console)
    else:
        console.print(Text(f"failed: {cause}"), soft_wrap=True)
    return 1


def _print_json(document: dict[str, Any], console: Console) -> None:
    console.print_json(json.dumps(plain_data(document), allow_nan=False))
