"""Pause, resume and cancel: what is asked, and the operation that answers."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from services.api.schemas.base import Body, Reason, Seconds, Text
from services.api.schemas.runs import RunObject
from services.control.calls import CANCEL_GRACE_SECONDS, PAUSE_TIMEOUT_SECONDS, OnTimeout
from services.reports import PauseMode, ReleaseLevel


class PauseBody(Body):
    """How to pause (docs/control.md says what each mode promises)."""

    mode: PauseMode = Field(
        default=PauseMode.DRAIN,
        description="`drain`: start no more groups; finish the groups and the learner step under way. `freeze`: hold "
        "the requests in their engines, finish the learner step under way. `abort`: give up the groups under way, "
        "which are sampled again with their seeds at resume",
    )
    checkpoint: bool | None = Field(
        default=None,
        description="commit a checkpoint before `paused` is said; null: true for drain and abort, false for freeze",
    )
    release: ReleaseLevel = Field(
        default=ReleaseLevel.NONE,
        description="what is given back while paused: `none`, `kv_cache`, `rollout_weights` or `all`; each includes "
        "those before it",
    )
    timeout_seconds: Seconds = Field(default=PAUSE_TIMEOUT_SECONDS, description="longest time until `paused`")
    on_timeout: OnTimeout = Field(
        default=OnTimeout.FAIL,
        description="when that is missed: `fail` (the pause fails and the run goes on), or the harder mode to go on "
        "with, `freeze` or `abort`",
    )
    ttl_seconds: Seconds | None = Field(
        default=None, description="the run resumes by itself after so long in `paused`; null: never"
    )
    reason: Reason = ""


class ResumeBody(Body):
    """How to go on."""

    reason: Reason = ""
    from_checkpoint: Text | None = Field(
        default=None,
        max_length=64,
        description="only after a pause with `release: all`: this checkpoint, not the pause's own; null: that one",
    )


class CancelBody(Body):
    """How to end."""

    checkpoint: bool = Field(default=True, description="commit a checkpoint first")
    grace_seconds: Seconds = Field(default=CANCEL_GRACE_SECONDS, description="longest time to stop in an orderly way")
    reason: Reason = ""


class OperationObject(BaseModel):
    """A call of a user that takes time."""

    id: str
    run_id: str
    kind: str = Field(description="pause, resume, cancel, checkpoint, eval, export, restart_worker or drain_worker")
    phase: str = Field(description="how far it is; `done` at the end")
    state: str = Field(description="running, succeeded or failed")
    progress: float | None = Field(description="of the phase, 0 to 1; null where nobody can say")
    inflight_groups: int = Field(description="groups that were still under way at the last report")
    reason: str
    requested_by: str = Field(description="name of the token that asked; `local` without tokens")
    requested_at: datetime
    deadline_at: datetime | None = Field(description="null while the phase has no deadline")
    ended_at: datetime | None = Field(description="null while running")
    error: str | None = Field(description="null unless failed")
    request: dict[str, Any] = Field(description="what was asked")
    result: dict[str, Any] = Field(description="what came of it, by kind; empty until then")


class CallAnswer(BaseModel):
    """What a call did: the run after it, and the operation to follow."""

    run: RunObject
    operation: OperationObject | None = Field(description="null when nothing had to be done")


class OperationPage(BaseModel):
    items: list[OperationObject]
    next_page_token: str | None = Field(description="null on the last page")
