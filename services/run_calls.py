"""What a user may ask of a run, and what of it this version can do. Plain records: HTTP turns bodies into these."""

from dataclasses import dataclass, replace

CANCEL_GRACE_SECONDS = 300.0
PAUSE_TIMEOUT_SECONDS = 900.0

# member: the value that exists, and values that are defined but not built yet
_CHOICES = {
    "mode": ("drain", ("freeze", "abort")),
    "release": ("none", ("kv_cache", "rollout_weights", "all")),
    "on_timeout": ("fail", ("freeze", "abort")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """How to pause: close the admission gate, let groups under way finish, finish the learner step under way.

    Args:
        timeout_seconds: how long that may take from the moment the gate closes; when missed, the run goes on.
        mode, checkpoint, release, on_timeout, ttl_seconds: one value each in this version, see `problems_of_pause`.
    """

    mode: str = "drain"
    checkpoint: bool = False
    release: str = "none"
    timeout_seconds: float = PAUSE_TIMEOUT_SECONDS
    on_timeout: str = "fail"
    ttl_seconds: float | None = None
    reason: str = ""

    def asks_the_same(self, other: "PauseRequest") -> bool:
        """Whether both ask for one thing; the reason is a remark."""
        return replace(self, reason="") == replace(other, reason="")


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """How to cancel: what is under way has `grace_seconds` to stop."""

    checkpoint: bool = False
    grace_seconds: float = CANCEL_GRACE_SECONDS
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """A member of a request that cannot be: JSON pointer and reason."""

    pointer: str
    message: str


def problems_of_pause(request: PauseRequest) -> tuple[FieldProblem, ...]:
    """Every member of a pause request that this version cannot do; empty when it can be done."""
    found: list[FieldProblem] = []
    for name, (exists, planned) in _CHOICES.items():
        value = getattr(request, name)
        if value in planned:
            found.append(_problem(name, f'"{value}" is not built yet; the only value that exists is "{exists}"'))
        elif value != exists:
            found.append(_problem(name, f'"{value}" is unknown; the only value that exists is "{exists}"'))
    found += _checkpoint_problem(request.checkpoint)
    if request.ttl_seconds is not None:
        found.append(_problem("ttl_seconds", "is not built yet; the only value that exists is null"))
    if not request.timeout_seconds > 0:
        found.append(_problem("timeout_seconds", f"must be > 0, got {request.timeout_seconds:g}"))
    return tuple(found)


def problems_of_cancel(request: CancelRequest) -> tuple[FieldProblem, ...]:
    """Every member of a cancel request that this version cannot do; empty when it can be done."""
    found = _checkpoint_problem(request.checkpoint)
    if not request.grace_seconds > 0:
        found.append(_problem("grace_seconds", f"must be > 0, got {request.grace_seconds:g}"))
    return tuple(found)


def _checkpoint_problem(checkpoint: bool) -> list[FieldProblem]:
    if not checkpoint:
        return []
    return [_problem("checkpoint", "true is not built yet; the only value that exists is false")]


def _problem(name: str, message: str) -> FieldProblem:
    return FieldProblem(pointer=f"#/{name}", message=message)
