"""What a user may ask of a run's life. Plain records: HTTP turns bodies into these."""

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from services.reports import PauseMode, ReleaseLevel

CANCEL_GRACE_SECONDS = 300.0
PAUSE_TIMEOUT_SECONDS = 900.0

_HARDNESS = tuple(PauseMode)  # drain, freeze, abort: each asks less patience of whoever waits than the one before
_CHECKPOINT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class OnTimeout(StrEnum):
    """What becomes of a pause that misses its deadline: it fails and the run goes on, or harder means come first."""

    FAIL = "fail"
    FREEZE = "freeze"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequest:
    """How to pause.

    Args:
        checkpoint: commit one before `paused` is said; None: as fits the mode, see `saves`.
        timeout_seconds: from the moment the run is told to stop; a harder means begins with as much again.
        ttl_seconds: how long the pause lasts once it is in force; None: until somebody resumes.
        ends_with_process: the next process of the run goes on by itself; for a pause that the system asks for, as it
            wants this process to end. What a user paused stays paused in the next process.
        reason: a remark.
    """

    mode: PauseMode = PauseMode.DRAIN
    checkpoint: bool | None = None
    release: ReleaseLevel = ReleaseLevel.NONE
    timeout_seconds: float = PAUSE_TIMEOUT_SECONDS
    on_timeout: OnTimeout = OnTimeout.FAIL
    ttl_seconds: float | None = None
    ends_with_process: bool = False
    reason: str = ""

    @property
    def saves(self) -> bool:
        """Whether a checkpoint is committed: by default all but a freeze do, which is meant to be fast."""
        return self.mode != PauseMode.FREEZE if self.checkpoint is None else self.checkpoint

    def asks_the_same(self, other: "PauseRequest") -> bool:
        """Whether both ask for one thing; the reason is a remark."""
        return self._said_in_full() == other._said_in_full()

    def _said_in_full(self) -> "PauseRequest":
        return replace(self, reason="", checkpoint=self.saves)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequest:
    """How to go on.

    Args:
        from_checkpoint: its name, where all was released; "" goes on from the pause's own.
    """

    reason: str = ""
    from_checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """How to end: what is under way has `grace_seconds` to stop, and to commit a checkpoint where one is asked for."""

    checkpoint: bool = True
    grace_seconds: float = CANCEL_GRACE_SECONDS
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """A member of a request that cannot be: JSON pointer and reason."""

    pointer: str
    message: str


def problems_of_pause(request: PauseRequest) -> tuple[FieldProblem, ...]:
    """Every member of a pause request that cannot be; empty when it can be done."""
    choices = {"mode": PauseMode, "release": ReleaseLevel, "on_timeout": OnTimeout}
    found = [
        _problem(name, f'must be one of {", ".join(kind)}, got "{getattr(request, name)}"')
        for name, kind in choices.items()
        if getattr(request, name) not in set(kind)
    ]
    if not found:
        found += _problems_together(request)
    found += _not_positive("timeout_seconds", request.timeout_seconds)
    if request.ttl_seconds is not None:
        found += _not_positive("ttl_seconds", request.ttl_seconds)
    return tuple(found)


def problems_of_resume(request: ResumeRequest) -> tuple[FieldProblem, ...]:
    """Every member of a resume request that cannot be in any state; empty when it can be done."""
    if not request.from_checkpoint or _CHECKPOINT_NAME.fullmatch(request.from_checkpoint):
        return ()
    rule = "must be a checkpoint's name: up to 64 small letters, digits, '.', '_' and '-', a letter or digit first"
    return (_problem("from_checkpoint", rule),)


def problems_of_cancel(request: CancelRequest) -> tuple[FieldProblem, ...]:
    """Every member of a cancel request that cannot be; empty when it can be done."""
    return tuple(_not_positive("grace_seconds", request.grace_seconds))


def _problems_together(request: PauseRequest) -> list[FieldProblem]:
    """Members that exclude each other."""
    found = []
    keeps_all = request.release == ReleaseLevel.NONE
    if request.mode == PauseMode.FREEZE and not keeps_all:
        rule = 'must be "none" with mode "freeze": the frozen answers live in the memory that would be given back'
        found.append(_problem("release", rule))
    if request.release == ReleaseLevel.ALL and not request.saves:
        found.append(_problem("checkpoint", 'must be true with release "all": nothing else would be left of the run'))
    if request.on_timeout == OnTimeout.FAIL:
        return found
    harder = [mode.value for mode in _HARDNESS[_HARDNESS.index(request.mode) + 1 :]]
    if request.on_timeout not in harder:
        choices = ", ".join(["fail", *harder])
        found.append(_problem("on_timeout", f'must be harder than mode "{request.mode}", or fail: one of {choices}'))
    elif request.on_timeout == OnTimeout.FREEZE and not keeps_all:
        found.append(_problem("on_timeout", f'must not be "freeze" with release "{request.release}"; use "abort"'))
    return found


def _not_positive(name: str, seconds: float) -> list[FieldProblem]:
    if math.isfinite(seconds) and seconds > 0:
        return []
    return [_problem(name, f"must be > 0 and finite, got {seconds:g}")]


def _problem(name: str, message: str) -> FieldProblem:
    return FieldProblem(pointer=f"#/{name}", message=message)
