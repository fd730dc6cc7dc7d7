"""Reports of runs for tests: every argument has a default, and what a test states is all that matters to it."""

import math
from collections.abc import Mapping
from typing import Any

from services.history import RunHistory
from services.reports import (
    EvaluationReport,
    Failure,
    RunDescription,
    RunEvent,
    RunState,
    StepReport,
    WorkerReport,
)


class Clock:
    """Time that the test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_description(
    *,
    run_id: str = "run-1",
    name: str = "tiny",
    total_steps: int = 10,
    recipe: dict[str, object] | None = None,
    run_dir: str = "runs/tiny",
) -> RunDescription:
    return RunDescription(
        run_id=run_id,
        name=name,
        model="models/tiny",
        algorithm="grpo",
        shaping="less",
        seed=7,
        total_steps=total_steps,
        recipe_hash="sha256:00",
        run_dir=run_dir,
        recipe=recipe or {},
    )


def make_step(
    step: int = 1,
    metrics: dict[str, float] | None = None,
    *,
    total_steps: int = 10,
    phase_seconds: dict[str, float] | None = None,
    step_seconds: float = 2.0,
    groups: dict[str, int] | None = None,
    num_response_tokens: int = 100,
) -> StepReport:
    """A step of 2 s: `elapsed_seconds` is that many times the step."""
    return StepReport(
        step=step,
        total_steps=total_steps,
        policy_version=step,
        metrics=metrics or {},
        phase_seconds=phase_seconds or {"wait_batch": 0.5, "train": 1.5},
        step_seconds=step_seconds,
        groups=groups or {"trained": 4},
        num_response_tokens=num_response_tokens,
        elapsed_seconds=step_seconds * step,
    )


def make_evaluation(step: int = 0, accuracy: float = 0.5, *, num_decided: int = 8) -> EvaluationReport:
    return EvaluationReport(
        step=step,
        policy_version=step,
        accuracy=accuracy,
        num_problems=8,
        num_answers=8,
        num_decided=num_decided,
        mean_response_tokens=20.0,
        seconds=1.0,
    )


def make_worker(
    worker_id: str = "rollout-0", *, role: str = "rollout", state: str = "ready", description: str = "vllm"
) -> WorkerReport:
    return WorkerReport(worker_id=worker_id, role=role, state=state, description=description, start_seconds=12.0)


def make_event(
    kind: str,
    message: str = "",
    state: RunState = RunState.RUNNING,
    *,
    failure: Failure | None = None,
    workers: tuple[WorkerReport, ...] = (),
    details: Mapping[str, Any] | None = None,
) -> RunEvent:
    return RunEvent(kind=kind, message=message, state=state, failure=failure, workers=workers, details=details or {})


def make_history(num_steps: int = 20) -> RunHistory:
    """A run that learns, with every number that the report figure and the live view read."""
    history = RunHistory(description=make_description(total_steps=num_steps))
    history.add(make_evaluation(0, 0.4))
    for step in range(1, num_steps + 1):
        accuracy = 0.4 + 0.5 * (1.0 - math.exp(-3.0 * step / num_steps))
        metrics = {
            "reward_total_value": accuracy,
            "reward_correct_share": accuracy,
            "rollout_entropy_nats": 0.6 - 0.4 * accuracy,
            "learner_entropy_nats": 0.59 - 0.4 * accuracy,
            "rollout_response_tokens": 44.0 - step / num_steps,
            "rollout_response_max_tokens": 80.0,
            "segments_threshold_nats": 0.2,
            "segments_shared_tokens": 600.0,
            "segments_correct_only_tokens": 200.0,
            "segments_incorrect_only_tokens": 150.0,
            "segments_unique_tokens": 50.0,
            "less_zero_tokens_share": 0.5,
            "less_single_tokens_share": 0.2,
            "less_partial_tokens_share": 0.1,
            "less_full_tokens_share": 0.2,
            "advantage_kept_mass_share": 0.4,
            "learner_logprob_difference_mean_nats": 1e-5,
            "learner_logprob_difference_max_nats": 1e-4,
            "learner_entropy_difference_mean_nats": 1e-5,
            "learner_entropy_difference_max_nats": 1e-4,
            "groups_mixed_count": 3.0,
            "groups_all_correct_count": 1.0,
            "groups_all_incorrect_count": 0.0,
        }
        history.add(make_step(step, metrics, total_steps=num_steps))
    history.add(make_evaluation(num_steps, 0.9))
    return history
