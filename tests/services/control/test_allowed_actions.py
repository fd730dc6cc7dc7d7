"""What a client is told that it may do is what would change something, after any history."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import (
    Accepted,
    Happening,
    OperationKind,
    Refused,
    RunLife,
    Transition,
    allowed_actions,
    begin_attempt,
    cancel,
    deadline_missed,
    expired,
    happened,
    lost,
    pause,
    progressed,
    resume,
)

REQUEST = PauseRequest(timeout_seconds=60.0, ttl_seconds=600.0, reason="maintenance")
CALLS: dict[str, Callable[[RunLife], Accepted | Refused]] = {
    "pause": lambda life: pause(life, REQUEST),
    "resume": lambda life: resume(life, ResumeRequest()),
    "cancel": lambda life: cancel(life, CancelRequest()),
}
COURSE: dict[str, Callable[[RunLife], Transition]] = {
    "saving": lambda life: progressed(life, OperationKind.PAUSE, "saving"),
    "late": lambda life: deadline_missed(life, OperationKind.PAUSE, "draining"),
    "expired": expired,
    "lost": lost,
    "new process": begin_attempt,
    "process ended": lambda life: happened(life, Happening.PAUSED, process_ended=True),
}
EVENTS = st.sampled_from([*CALLS, *COURSE, *Happening])


def after(life: RunLife, event: str) -> RunLife:
    if isinstance(event, Happening):
        return happened(life, event).life
    answer = CALLS[event](life) if event in CALLS else COURSE[event](life)
    return life if isinstance(answer, Refused) else answer.life


@given(st.lists(EVENTS, max_size=30))
def test_an_action_is_allowed_exactly_when_it_would_change_something(events: list[str]) -> None:
    life = RunLife()
    for event in events:
        life = after(life, event)
    changing = {name for name, call in CALLS.items() if isinstance(answer := call(life), Accepted) and answer.effects}
    assert changing == set(allowed_actions(life)) & set(CALLS)
