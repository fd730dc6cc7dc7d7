"""Laws of the run's life over any history of calls and reports."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from services.reports import IntentKind, RunState
from services.run_calls import CancelRequest, PauseRequest
from services.run_state import (
    Accepted,
    Happening,
    OperationKind,
    Refused,
    RunLife,
    Transition,
    WriteIntent,
    allowed_actions,
    cancel,
    deadline_missed,
    happened,
    pause,
    resume,
)

REQUEST = PauseRequest(timeout_seconds=60.0, reason="maintenance")
OTHER_REQUEST = PauseRequest(timeout_seconds=61.0)
TERMINAL = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
EVENTS = st.one_of(
    st.sampled_from(list(Happening)),
    st.sampled_from(["pause", "other pause", "resume", "cancel", "pause deadline"]),
)
# The arrows of the diagram, and a pause that waits for the start.
ARROWS: dict[RunState, set[RunState]] = {
    RunState.PENDING: {RunState.STARTING, RunState.RUNNING, RunState.PAUSING, RunState.CANCELLING},
    RunState.STARTING: {RunState.RUNNING, RunState.PAUSING, RunState.CANCELLING},
    RunState.RUNNING: {RunState.PAUSING, RunState.CANCELLING},
    RunState.PAUSING: {RunState.PAUSED, RunState.RUNNING, RunState.CANCELLING},
    RunState.PAUSED: {RunState.RESUMING, RunState.CANCELLING},
    RunState.RESUMING: {RunState.RUNNING, RunState.PAUSING, RunState.CANCELLING},
    RunState.CANCELLING: set(),
    **{state: set() for state in TERMINAL},
}


def apply(now: RunLife, event: str) -> Transition | None:
    if isinstance(event, Happening):
        return happened(now, event)
    if event == "pause deadline":
        return deadline_missed(now, OperationKind.PAUSE, "draining") if now.state is RunState.PAUSING else None
    calls: dict[str, Callable[[], Accepted | Refused]] = {
        "pause": lambda: pause(now, REQUEST),
        "other pause": lambda: pause(now, OTHER_REQUEST),
        "resume": lambda: resume(now),
        "cancel": lambda: cancel(now, CancelRequest()),
    }
    answer = calls[event]()
    return None if isinstance(answer, Refused) else answer


@given(st.lists(EVENTS, max_size=30))
def test_no_history_leaves_the_diagram_and_the_intent_follows_the_life(events: list[str]) -> None:
    now, intent = RunLife(), IntentKind.RUN
    for event in events:
        step = apply(now, event)
        if step is None:
            continue
        before, now = now, step.life
        if now.state is not before.state:
            assert now.state in ARROWS[before.state] or (now.state.is_terminal and not before.state.is_terminal)
        for effect in step.effects:
            if isinstance(effect, WriteIntent):
                intent = effect.kind
        is_queued = now.state is RunState.RESUMING and now.pause is not None
        if not now.state.is_terminal:
            assert intent is (IntentKind.RUN if is_queued else now.desired)
        assert (now.state in (RunState.PAUSING, RunState.PAUSED)) <= (now.pause is not None)


@given(st.lists(EVENTS, max_size=30))
def test_an_action_is_allowed_exactly_when_it_would_change_something(events: list[str]) -> None:
    now = RunLife()
    for event in events:
        step = apply(now, event)
        now = step.life if step is not None else now
    answers = {"pause": pause(now, REQUEST), "resume": resume(now), "cancel": cancel(now, CancelRequest())}
    changing = {name for name, answer in answers.items() if isinstance(answer, Accepted) and answer.effects}
    assert changing == set(allowed_actions(now))
