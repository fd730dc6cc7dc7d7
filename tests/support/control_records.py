"""Records of the control plane with every member set to something that can be told apart."""

from typing import Any

from services.control.calls import PauseRequest, ResumeRequest
from services.control.life import OperationKind, RunLife
from services.control.records import (
    AuditLine,
    Caller,
    ConfigGeneration,
    KeptAnswer,
    LoggedEvent,
    Operation,
    OperationState,
    RunRecord,
)
from services.reports import (
    Failure,
    Intent,
    IntentKind,
    LiveChange,
    PauseMode,
    PauseOrder,
    ReleaseLevel,
    RunDescription,
    RunState,
    RunTask,
    TaskKind,
)

HOSTILE = "</script>\x00\x1b[2J \\u0041 \\ \ud83d é 中"
"""What a model may write: NUL, an escape, a backslash, half a surrogate pair."""


def make_run(run_id: str = "run_a", **members: Any) -> RunRecord:
    """A run that is being paused, and waits to be resumed."""
    full: dict[str, Any] = {
        "run_id": run_id,
        "description": RunDescription(
            run_id=run_id,
            name="a name",
            model="m",
            algorithm="grpo",
            shaping="less",
            seed=7,
            total_steps=9,
            recipe_hash="sha256:0",
            run_dir="/runs/a",
            recipe={"run": {"seed": 7, "name": None}, "list": [1, 2.5, "x"]},
        ),
        "life": RunLife(
            state=RunState.PAUSING,
            pause=PauseRequest(mode=PauseMode.ABORT, release=ReleaseLevel.KV_CACHE, reason=HOSTILE),
            is_escalated=True,
            phase="saving",
            resume=ResumeRequest(reason="soon"),
        ),
        "intent": Intent(
            generation=3,
            kind=IntentKind.PAUSE,
            order=PauseOrder(operation_id="op_1", mode=PauseMode.ABORT, checkpoint=True),
            changes=(LiveChange(generation=2, values={"learner.learning_rate": 1e-6}, at_step=4),),
            tasks=(RunTask(operation_id="op_2", kind=TaskKind.CHECKPOINT, options={"tag": "t"}),),
        ),
        "created_at": 1000.25,
        "labels": {"team": "a"},
        "message": HOSTILE,
        "failure": Failure(role="rollout", cause=HOSTILE, group_id="g"),
        "checkpoint": {"name": "step-000004", "step": 4},
        "paused_until": 2000.5,
    }
    return RunRecord(**(full | members))


def make_operation(operation_id: str = "op_1", run_id: str = "run_a", **members: Any) -> Operation:
    full: dict[str, Any] = {
        "operation_id": operation_id,
        "run_id": run_id,
        "kind": OperationKind.PAUSE,
        "phase": "draining",
        "state": OperationState.RUNNING,
        "reason": HOSTILE,
        "requested_by": "ops",
        "requested_at": 1000.5,
        "deadline_at": 1900.5,
        "progress": 0.25,
        "request": {"mode": "drain"},
        "result": {"checkpoint": "step-000004"},
    }
    return Operation(**(full | members))


def make_event(sequence: int, run_id: str = "run_a", **members: Any) -> LoggedEvent:
    full: dict[str, Any] = {
        "sequence": sequence,
        "run_id": run_id,
        "at": 1000.75,
        "kind": "run_state_changed",
        "message": HOSTILE,
        "state": RunState.PAUSING,
        "failure": Failure(role="shaping", cause="c"),
        "details": {"from": "running", "reward": float("inf"), HOSTILE: [None, True]},
    }
    return LoggedEvent(**(full | members))


def make_config(generation: int = 2, run_id: str = "run_a", **members: Any) -> ConfigGeneration:
    full: dict[str, Any] = {
        "run_id": run_id,
        "generation": generation,
        "at": 1001.0,
        "by": "ops",
        "values": {"learner.learning_rate": 1e-6},
        "applies": {"learner.learning_rate": "next_step"},
    }
    return ConfigGeneration(**(full | members))


def make_audit(number: int = 1) -> AuditLine:
    return AuditLine(
        at=1000.0 + number,
        caller=Caller(name="ops", role="operate", address="127.0.0.1"),
        request_id=f"req_{number}",
        method="POST",
        path=f"/v1/runs/{HOSTILE}/pause",
        run_id=HOSTILE,
        body_digest="sha256:1",
        body={"reason": HOSTILE},
        status=202,
        generation_before=1,
    )


def make_answer(key: str = "key", **members: Any) -> KeptAnswer:
    full: dict[str, Any] = {
        "key": key,
        "caller": "ops",
        "path": "/v1/runs",
        "body_digest": "sha256:2",
        "created_at": 1000.0,
    }
    return KeptAnswer(**(full | members))
