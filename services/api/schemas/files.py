"""What the API reads from a run's directory: curves, distributions, groups, checkpoints, evaluations."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.api.schemas.base import Body, Text

CHECKPOINT_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class SeriesObject(BaseModel):
    """Curves over learner steps; thinned to `max_points`, each window keeps its minimum and maximum."""

    step: list[int]
    series: dict[str, list[float | None]] = Field(description="by name; null where a step has no such number")


class SeriesNames(BaseModel):
    names: list[str]


class DistributionObject(BaseModel):
    """A histogram over the groups that were written down for one step."""

    kind: str
    step: int = Field(description="that the groups were sampled for")
    edges: list[float] = Field(description="one more than counts")
    counts: list[int] = Field(description="what lies beyond the ends is in the first or the last bin")
    n: int = Field(description="sum of counts")
    num_groups: int


class GroupSummary(BaseModel):
    """One group that ended. Null: the group was not written down, which alone would tell."""

    group_id: str
    prompt_id: str
    step: int = Field(description="that trained it, or that it was sampled for where none did")
    visit: int = Field(description="how often the prompt had been asked before")
    outcome: str = Field(description="trained, skipped or dropped_<reason>")
    verdicts: str | None = Field(description="mixed, all_correct or all_incorrect")
    num_correct: int | None = Field(description="of its responses")
    num_rollouts: int | None = Field(description="responses")
    num_tokens: int | None = Field(description="of all responses")
    is_stored: bool = Field(description="whether the group view has it")


class GroupPage(BaseModel):
    """A page may be short, or empty, before the last one."""

    items: list[GroupSummary]
    next_page_token: str | None = Field(description="null on the last page")


class GroupObject(BaseModel):
    """One group, token by token; all members are those of services/explain/view.py."""

    model_config = ConfigDict(extra="allow")

    group_id: str
    num_tokens: int
    classes: list[Any] = Field(description="what the marks mean")
    tokens: list[str] = Field(description="texts by number")
    rollouts: list[dict[str, Any]] = Field(description="of each response, numbers of tokens and reasons, entropies")
    answers: list[dict[str, Any]] = Field(description="of each response: correct, num_tokens, reward, is_truncated")


class OutcomesObject(BaseModel):
    """Groups by how they ended."""

    step: int | None = Field(description="null: over the whole run")
    groups: dict[str, int]


class CheckpointObject(BaseModel):
    """One checkpoint. Null: a damaged one does not say."""

    name: str
    step: int | None
    policy_version: int | None
    bytes: int | None = Field(description="of its files")
    sha256_manifest: str | None = Field(description="of manifest.json, which has the digests of all other files")
    complete: bool = Field(description="whether a run can go on from it, by its manifest and the sizes of its files")
    pinned: bool
    tag: str = Field(description="empty without")
    created_at: datetime | None
    problem: str | None = Field(description="why it is not complete; null where it is")


class CheckpointPage(BaseModel):
    items: list[CheckpointObject]
    next_page_token: str | None = Field(description="null on the last page")


class CheckpointBody(Body):
    """A checkpoint to commit at the next step border."""

    tag: Text = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9._-]*$", description="a word to find it by")


class PinBody(Body):
    pinned: bool = Field(description="a pinned checkpoint is never removed by the run's own limit")


class ExportBody(Body):
    format: str = Field(default="safetensors", max_length=32, description="only safetensors exists")


class EvalBody(Body):
    """Members that say what to evaluate: none, in this version."""


class EvaluationObject(BaseModel):
    """One evaluation that the run's directory holds."""

    id: str = Field(description="name of its directory")
    step: int | None = Field(description="learner steps of the policy; null where it is none of the run's own")
    created_at: datetime | None = Field(description="null where nothing says it")
    complete: bool = Field(description="every answer is there and measured")
    benchmarks: dict[str, dict[str, float | None]] = Field(
        description="by benchmark: acc/mean@k, acc/pass@k and others; empty before it is measured"
    )
    details: dict[str, Any] = Field(
        description="`report` of the run, `results` with intervals and notes, `asked`; what is not known is absent"
    )


class EvaluationPage(BaseModel):
    items: list[EvaluationObject]
    next_page_token: str | None = Field(description="null on the last page")


class WorkerObject(BaseModel):
    """One worker of a run, as it was last reported. Null: nobody has said so."""

    id: str
    role: str
    state: str = Field(description="of its process: starting, ready, lost ...")
    standing: str | None = Field(description="what it does: serving, behind, lent, draining, out or lost")
    inflight: int | None = Field(description="rollouts, or groups to shape, that it has to do")
    restarts: int
    policy_version: int | None = Field(description="that it serves; null for workers that serve none")
    description: str
    start_seconds: float = Field(description="that its last start took")


class WorkerPage(BaseModel):
    items: list[WorkerObject]
    next_page_token: str | None = Field(description="null on the last page")


class QueueObject(BaseModel):
    """A place where groups wait."""

    name: str
    depth: int
    capacity: int | None = Field(description="null: without a bound")


class QueuePage(BaseModel):
    items: list[QueueObject]
