"""Waiting and following, on a clock that only moves when somebody sleeps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.client.errors import CommandFailed, Refused, Unreachable
from services.client.events import ServerEvent
from services.client.waiting import Poll, RealTime, follow

AWAY = Unreachable("nobody answers")
RESTARTING = Refused(503, {"detail": "shutting down"})
GONE = Refused(404, {"detail": "no such run"})


@dataclass
class FakeTime:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def time(self) -> RealTime:
        return RealTime(now=lambda: self.now, sleep=self.sleep)


class Answers:
    """Answers in order, the last one again and again; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers
        self.num_asked = 0

    def __call__(self) -> dict[str, Any]:
        answer = self._answers[min(self.num_asked, len(self._answers) - 1)]
        self.num_asked += 1
        if isinstance(answer, Exception):
            raise answer
        return {"state": answer}


def poll(clock: FakeTime, answers: Answers, *, timeout: float | None = None) -> str:
    wait = Poll(what="the end", timeout_seconds=timeout, max_away_seconds=10.0, every_seconds=1.0, time=clock.time)
    return str(wait.until(answers, lambda answer: answer["state"] == "ended")["state"])


def test_answer_that_meets_the_condition_ends_the_wait() -> None:
    clock = FakeTime()
    assert poll(clock, Answers("running", "running", "ended")) == "ended"
    assert clock.slept == [1.0, 1.0]


def test_time_that_is_over_ends_it_with_code_5_and_not_a_moment_later() -> None:
    clock = FakeTime()
    with pytest.raises(CommandFailed, match=r"waited 2\.5 s in vain for the end") as late:
        poll(clock, Answers("running"), timeout=2.5)
    assert late.value.exit_code == 5
    assert clock.now == 2.5


def test_control_plane_that_comes_back_is_waited_for() -> None:
    assert poll(FakeTime(), Answers("running", AWAY, AWAY, RESTARTING, "ended")) == "ended"


def test_control_plane_that_stays_away_ends_the_wait_with_code_3() -> None:
    clock = FakeTime()
    with pytest.raises(Unreachable) as away:
        poll(clock, Answers("running", AWAY))
    assert away.value.exit_code == 3
    # Heard at 0 s, borne for 10 s: the question at 11 s is one too many.
    assert clock.now == 11.0


def test_control_plane_that_never_answered_is_not_waited_for() -> None:
    clock = FakeTime()
    with pytest.raises(Unreachable):
        poll(clock, Answers(AWAY))
    assert clock.slept == []


def test_refusal_ends_the_wait() -> None:
    with pytest.raises(Refused):
        poll(FakeTime(), Answers("running", GONE))


class Streams:
    """One list for each time that a stream is opened: events, None for a sign of life, an error to break off with."""

    def __init__(self, *streams: Sequence[Any]) -> None:
        self._streams = list(streams)
        self.opened_after: list[str] = []

    @contextmanager
    def stream(self, path: str, *, after: str = "", **query: Any) -> Iterator[Iterator[ServerEvent | None]]:
        del path, query
        self.opened_after.append(after)
        if not self._streams:
            raise GONE
        yield self._play(self._streams.pop(0))

    def _play(self, items: Sequence[Any]) -> Iterator[ServerEvent | None]:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield None if item is None else ServerEvent(event_id=item, kind="x", data=item)


def followed(clock: FakeTime, streams: Streams) -> list[str | None]:
    found: list[str | None] = []
    try:
        for event in follow(streams, "/x", after="1", time=clock.time):  # type: ignore[arg-type]
            found.append(None if event is None else event.event_id)
    except Refused as error:
        assert error is GONE
    return found


def test_broken_stream_goes_on_behind_the_last_event() -> None:
    streams = Streams(["2", "3", AWAY], [AWAY], ["4"])
    assert followed(FakeTime(), streams) == ["2", "3", None, None, "4", None]
    assert streams.opened_after == ["1", "3", "3", "4"]


def test_retries_become_rarer_and_an_event_makes_them_quick_again() -> None:
    clock = FakeTime()
    followed(clock, Streams(*[[AWAY]] * 5, ["2"], []))
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 10.0, 1.0, 2.0]


def test_stream_that_was_never_opened_is_an_error() -> None:
    with pytest.raises(Refused):
        list(follow(Streams(), "/x", time=FakeTime().time))  # type: ignore[arg-type]
