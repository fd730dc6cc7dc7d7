"""What a run says of itself: the records that the orchestrator hands to the control plane, the live view and the files.

One direction: orchestrator to readers. Plain numbers and words only, so that every record is JSON and pickles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shaping.histograms import Histogram


class RunState(StrEnum):
    """Life of a run (operations: the state machine)."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One finished learner step.

    Args:
        step: 1-based count of finished steps; also the policy version that is live when it is reported.
        metrics: values by catalogue name (services/metrics/catalogue.py); a value that does not exist is absent.
        phase_seconds: where the step's wall time went; adds up to `step_seconds`.
        groups: groups by outcome: "trained", or "dropped_<reason>".
        num_response_tokens: tokens sampled for this step's groups, dropped ones included.
        elapsed_seconds: training time since the first group was asked for, pauses excluded.
        histograms: distributions by catalogue name.
    """

    step: int
    total_steps: int
    policy_version: int
    metrics: dict[str, float]
    phase_seconds: dict[str, float]
    step_seconds: float
    groups: dict[str, int]
    num_response_tokens: int
    elapsed_seconds: float
    histograms: dict[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """Accuracy on held-out problems at one policy version.

    Args:
        step: finished learner steps at that version.
        accuracy: share of decided answers that are right, each set counting the same.
        num_answers, num_decided: all answers, and those with a verdict.
        metrics: by the field's names: `val-core/<set>/acc/mean@32` (shaping/evaluation/catalogue.py).
    """

    step: int
    policy_version: int
    accuracy: float
    num_problems: int
    num_answers: int
    num_decided: int
    mean_response_tokens: float
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One worker at start: role is rollout, shaping or learner.

    Args:
        restarts: how often it was started again so far.
    """

    worker_id: str
    role: str
    state: str
    description: str
    start_seconds: float
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """First cause of a failed run."""

    role: str
    cause: str
    group_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """A change of the run's life, in words: `kind` is a short stable name, `message` is for a person.

    Args:
        details: the same for programs, as JSON data; which members an event of some kind has is in docs/control.md.
    """

    kind: str
    message: str
    state: RunState
    failure: Failure | None = None
    workers: tuple[WorkerReport, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationReport:
    """How far the run is with something that it was asked to do. For the control plane alone: no file keeps it.

    Args:
        operation_id: of the intent that asked.
        phase: of a pause: draining, aborting, freezing, shaping_tail, finishing_step, saving, releasing.
        progress: 0 to 1; None where nobody can say.
        inflight_groups: groups still under way.
    """

    operation_id: str
    phase: str
    progress: float | None = None
    inflight_groups: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What one rollout or shaping worker does now.

    Args:
        standing: serving, behind (other weights than the current ones), lent (an evaluation has it), draining, out
            (being started again) or lost.
        inflight: what it has to do: rollouts, or groups to shape.
        restarts: how often it was started again so far.
        policy_version: that a rollout worker serves; None for others, and where it is not known.
    """

    worker_id: str
    role: str
    standing: str
    inflight: int
    restarts: int
    policy_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferReport:
    """What waits where, told when it has changed and at most once a second. For the control plane alone.

    Args:
        queues: by name: (depth, capacity).
        lent: rollout workers that an evaluation has.
        workers: every rollout and shaping worker.
        totals: counts and seconds since this process of the run began, by catalogue name; they never fall.
    """

    queues: Mapping[str, tuple[int, int]]
    version: int
    lent: tuple[str, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    totals: Mapping[str, float] = field(default_factory=dict)


RunReport = RunEvent | StepReport | EvaluationReport
"""What a run writes down as well."""

ControlReport = RunReport | OperationReport | BufferReport


class IntentKind(StrEnum):
    """What a user wants of a run."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class PauseMode(StrEnum):
    """What becomes of the groups under way (operations: pause semantics)."""

    DRAIN = "drain"
    FREEZE = "freeze"
    ABORT = "abort"


class ReleaseLevel(StrEnum):
    """What a paused run gives back; each level includes those before it."""

    NONE = "none"
    KV_CACHE = "kv_cache"
    ROLLOUT_WEIGHTS = "rollout_weights"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOrder:
    """How to stop: of a pause, and of a cancel that saves.

    Args:
        operation_id: to name in what is reported of it.
        checkpoint: commit one before `paused` is said.
    """

    operation_id: str
    mode: PauseMode
    checkpoint: bool
    release: ReleaseLevel = ReleaseLevel.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """New values of live keys (services/live/keys.py).

    Args:
        generation: of the run's config; changes are applied in this order.
        values: by dotted recipe key, JSON data.
        at_step: first step that they hold for, where that is known; None: from the next border on.
    """

    generation: int
    values: Mapping[str, Any]
    at_step: int | None = None


class TaskKind(StrEnum):
    """What a run can be asked to do beside training, once."""

    CHECKPOINT = "checkpoint"
    EVAL = "eval"
    RESTART_WORKER = "restart_worker"
    DRAIN_WORKER = "drain_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTask:
    """One such thing. The run answers with an event `task_done` or `task_failed`; twice is as once.

    Args:
        options: {"tag": ""} of a checkpoint; {"worker_id": "rollout-0"} of a restart or drain; {} of an eval.
    """

    operation_id: str
    kind: TaskKind
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """All that is wanted of a run, with a number that rises at each change.

    Args:
        order: how to stop; with PAUSE, and with a CANCEL that saves.
        changes: every live change of the run so far, applied ones too.
        tasks: that are not done.
        from_checkpoint: with RUN after everything was released: a checkpoint's name; "" goes on from the pause's own.
    """

    generation: int
    kind: IntentKind
    reason: str = ""
    order: PauseOrder | None = None
    changes: tuple[LiveChange, ...] = ()
    tasks: tuple[RunTask, ...] = ()
    from_checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """What was asked for, as the control plane shows it."""

    run_id: str
    name: str
    model: str
    algorithm: str
    shaping: str
    seed: int
    total_steps: int
    recipe_hash: str
    run_dir: str
    recipe: dict[str, object] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The estimator, and what shapes its advantages, in words."""
        return self.algorithm if self.shaping == "none" else f"{self.algorithm} with {self.shaping} shaping"
