"""A run: what was asked for, what is, and the small answer that a screen polls."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, model_validator

from services.api.schemas.base import Body, Labels, Text

MAX_NOTES_CHARS = 10_000
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class SpecObject(BaseModel):
    """What was asked for."""

    generation: int = Field(description="rises with each change of what is wanted of the run")
    config_generation: int = Field(description="of the config: 1, and one more for each live change")
    desired_state: str = Field(description="running, paused or cancelled")
    model: str
    algorithm: str
    shaping: str
    seed: int
    config_hash: str


class PauseObject(BaseModel):
    """The pause that is asked for or in force."""

    operation_id: str
    mode: str
    release: str
    requested_by: str
    reason: str
    requested_at: datetime
    deadline_at: datetime | None = Field(description="null while the phase has no deadline")
    phase: str = Field(
        description="waiting_for_start, queued, draining, aborting, freezing, shaping_tail, finishing_step, saving, "
        "releasing or done"
    )
    progress: float | None = Field(description="of the phase, 0 to 1; null where nobody can say")
    inflight_groups: int
    checkpoint: str | None = Field(description="the one that was committed; null before, or where none was asked for")
    released: str | None = Field(description="what was given back; null before `paused`")
    exactness: str | None = Field(description="learner_exact or none; null before `paused`")
    expires_at: datetime | None = Field(description="when the run resumes by itself; null: never")


class FailureObject(BaseModel):
    """First cause of a failure."""

    role: str
    cause: str
    group_id: str | None = Field(description="null when no group was involved")


class WorkerCounts(BaseModel):
    ready: int
    total: int


class CheckpointMark(BaseModel):
    """The newest checkpoint of a run."""

    latest: str
    step: int | None = Field(description="null where the run did not say")
    created_at: datetime | None = Field(description="null where the run did not say")


class EvaluationMark(BaseModel):
    """The last held-out evaluation."""

    step: int
    policy_version: int
    accuracy_ratio: float
    problems: int
    answers: int
    decided: int = Field(description="answers with a verdict")
    mean_response_tokens: float
    metrics: dict[str, float] = Field(description="by the field's names, for example val-core/aime24/acc/mean@32")


class QueueMark(BaseModel):
    depth: int
    capacity: int = Field(description="0: without a bound")


class StatusObject(BaseModel):
    """What is."""

    observed_generation: int = Field(description="the last generation that the run has seen")
    state: str = Field(
        description="pending, starting, running, pausing, paused, resuming, cancelling, completed, failed or cancelled"
    )
    reason: str = Field(description="one word for why the state is so; empty where there is nothing to say")
    message: str
    step: int = Field(description="finished learner steps")
    total_steps: int
    policy_version: int = Field(description="made by the learner; every engine serves it once its step is reported")
    rollout_policy_version: int | None = Field(description="that the engines serve; null before they said so")
    tokens_generated: int
    last_step_at: datetime | None = Field(description="null before the first step")
    eta_seconds: float | None = Field(description="null unless steps are being made")
    metrics: dict[str, float] = Field(description="of the last step, by catalogue name; empty before the first step")
    evaluation: EvaluationMark | None = Field(description="null before the first evaluation")
    checkpoint: CheckpointMark | None = Field(description="null before the first checkpoint")
    pause: PauseObject | None = Field(description="null unless a pause is asked for or in force")
    allowed_actions: list[str]
    workers: dict[str, WorkerCounts] = Field(description="by role; a role is absent before its workers reported")
    attempt: int = Field(description="1 for the first process of the run")
    restarts_total: int = Field(description="of workers, in this process of the run")
    failure: FailureObject | None = Field(description="null unless failed")


class RunLinks(BaseModel):
    self: str
    status: str
    events: str
    operations: str
    config: str
    ui: str


class RunObject(BaseModel):
    """A run: what was asked for, and what is."""

    id: str
    name: str
    labels: dict[str, str]
    notes: str
    created_at: datetime
    started_at: datetime | None = Field(description="null before the first group was asked for")
    finished_at: datetime | None = Field(description="null before the end")
    run_dir: str
    spec: SpecObject
    status: StatusObject
    links: RunLinks


class RunPage(BaseModel):
    items: list[RunObject]
    next_page_token: str | None = Field(description="null on the last page")


class LiveStatusObject(BaseModel):
    """The small answer for whoever looks once a second: all of it is in memory."""

    id: str
    name: str
    state: str
    reason: str
    message: str
    desired_state: str
    step: int
    total_steps: int
    policy_version: int
    rollout_policy_version: int | None = Field(description="null before the engines said so")
    tokens_generated: int
    last_step_at: datetime | None = Field(description="null before the first step")
    last_step_age_seconds: float | None = Field(description="null before the first step")
    eta_seconds: float | None = Field(description="null unless steps are being made")
    step_seconds: float | None = Field(description="of the last step; null before it")
    phase_seconds: dict[str, float] = Field(description="where the last step's time went; adds up to step_seconds")
    tokens_per_second: float | None = Field(
        description="response tokens of the last step over its seconds; null before"
    )
    groups: dict[str, int] = Field(description="groups of the last step by outcome")
    queues: dict[str, QueueMark]
    metrics: dict[str, float] = Field(description="of the last step, by catalogue name")
    evaluation: EvaluationMark | None = Field(description="null before the first evaluation")
    checkpoint: CheckpointMark | None = Field(description="null before the first checkpoint")
    pause: PauseObject | None = Field(description="null unless a pause is asked for or in force")
    allowed_actions: list[str]
    workers: dict[str, WorkerCounts]
    restarts_total: int
    attempt: int
    generation: int
    config_generation: int
    failure: FailureObject | None = Field(description="null unless failed")


class ResumeFromBody(Body):
    """A run of this control plane to go on with, from one of its checkpoints."""

    run_id: Text = Field(max_length=128)
    checkpoint: Text = Field(default="", max_length=64, description="empty: the newest that is whole")


class CreateRunBody(Body):
    """A run to start: `config` (a recipe as JSON) or `config_text` (a recipe as YAML), or `resume_from` alone."""

    name: Text | None = Field(default=None, pattern=NAME_PATTERN, description="null: as the recipe says")
    labels: Labels = Field(default_factory=dict)
    notes: Text = Field(default="", max_length=MAX_NOTES_CHARS)
    config: dict[str, Any] | None = Field(default=None, description="a recipe as JSON; null: another member says")
    config_text: Text | None = Field(
        default=None, max_length=1 << 20, description="a recipe as YAML; null: another member says"
    )
    set: list[Text] = Field(default_factory=list, max_length=200, description="overrides of it, each key=value")
    resume_from: ResumeFromBody | None = Field(
        default=None, description="go on with a run that is here: same id, next attempt; null: a new one"
    )
    start_paused: bool = Field(default=False, description="it starts, and admits no group before a resume")
    dry_run: bool = Field(default=False, description="start nothing: say what it would be")

    @model_validator(mode="after")
    def _has_one_source(self) -> "CreateRunBody":
        given = [name for name in ("config", "config_text", "resume_from") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"must hold one of config, config_text and resume_from, found {', '.join(given) or 'none'}"
            )
        return self


class DryRunObject(BaseModel):
    """What a recipe would start."""

    config: dict[str, Any] = Field(description="the resolved recipe, every default written out")
    plan: dict[str, Any] = Field(description="as `lessrl plan --json` says it")


class RelabelBody(Body):
    """What may be written on a run; a member that is absent or null stays as it is."""

    name: Text | None = Field(default=None, pattern=NAME_PATTERN)
    labels: Labels | None = Field(default=None, description="all of them: what is not named is taken off")
    notes: Text | None = Field(default=None, max_length=MAX_NOTES_CHARS)
