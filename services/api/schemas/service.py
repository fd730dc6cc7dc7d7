"""What the control plane says of itself: health, versions, what it can do, who called."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from services.api.schemas.config import LiveRowObject


class HealthObject(BaseModel):
    status: str


class ReadinessObject(BaseModel):
    status: str
    checks: dict[str, str] = Field(
        description="`ok`, or what is wrong, by check; only that something is, for callers from elsewhere"
    )


class VersionObject(BaseModel):
    """Installed versions; null for what is not installed here."""

    version: str
    git_commit: str | None = Field(description="null where it was not written into the build")
    api: str
    python: str
    ray: str | None
    vllm: str | None
    deepspeed: str | None
    torch: str | None


class CapabilitiesObject(BaseModel):
    """What can be asked of this control plane and its runs."""

    api: str
    can_create_runs: bool = Field(description="whether this control plane starts processes")
    pause_modes: list[str]
    release_levels: list[str]
    on_timeout: list[str]
    live_keys: list[LiveRowObject] = Field(description="all that may be; which of them a run has is in its config")
    components: dict[str, list[str]] = Field(
        description="kinds by folder: shaping.estimators, shaping.shapers, shaping.rewards, learner.losses ..."
    )
    benchmarks: list[str]


class ShutdownObject(BaseModel):
    status: str


class AuditObject(BaseModel):
    """One call that changed something, or tried to."""

    id: int
    at: datetime
    caller: str = Field(description="name of the token; `local` without tokens, empty where nobody was known")
    role: str
    address: str
    request_id: str
    method: str
    path: str
    run_id: str = Field(description="empty where the path names none")
    body_digest: str
    body: dict[str, Any] = Field(description="secrets masked; a long one is left out, its length said")
    status: int
    generation_before: int | None = Field(description="of the run's config; null where the call names no run")
    generation_after: int | None = Field(description="of the run's config; null where the call names no run")


class AuditPage(BaseModel):
    items: list[AuditObject]
    next_page_token: str | None = Field(description="null on the last page")
