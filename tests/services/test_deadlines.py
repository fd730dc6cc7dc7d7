"""Deadlines: a role that hangs is named; whatever else a call does comes through."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.deadlines import EqualDeadlines, within
from services.failures import first_cause
from services.virtual_time import run_virtual, virtual_clock
from shaping.errors import DeadlineMissed, EngineRefused, RecordError, RunFailed


async def answer(value: object) -> object:
    if isinstance(value, BaseException):
        raise value
    return value


@pytest.fixture(params=["one timer each", "one timer for all"])
def ask(request: pytest.FixtureRequest) -> Callable[[object], Awaitable[object]]:
    """The two forms, which mean the same."""

    async def asked(value: object) -> object:
        words = {"role": "shaping", "what": "shaping by s0", "key": "run.x", "group_id": "g1"}
        if request.param == "one timer each":
            return await within(20, answer(value), **words)
        return await EqualDeadlines(20).within(answer(value), **words)

    return asked


Ask = Callable[[object], Awaitable[object]]


async def test_an_answer_in_time_is_the_answer(ask: Ask) -> None:
    assert await ask(5) == 5


async def test_no_answer_in_time_names_role_group_and_key() -> None:
    with pytest.raises(RunFailed) as caught:
        await within(0.01, asyncio.Event().wait(), role="learner", what="step 3", key="run.deadlines.step_seconds")
    assert str(caught.value) == "learner: step 3 took longer than 0.01 s (run.deadlines.step_seconds)"


async def test_a_broken_record_is_a_failure_of_the_role_that_gave_it(ask: Ask) -> None:
    with pytest.raises(RunFailed, match=r"^shaping \(group g1\): shaping by s0: rewards must have 2 entries$"):
        await ask(RecordError("rewards must have 2 entries"))


@pytest.mark.parametrize("error", [EngineRefused("checksum"), RunFailed(role="rollout", cause="lost"), OSError("disk")])
async def test_other_failures_come_through_as_they_are(ask: Ask, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await ask(error)
    assert caught.value is error


async def test_a_timeout_of_the_callee_is_not_mistaken_for_the_deadline(ask: Ask) -> None:
    with pytest.raises(TimeoutError, match="socket"):
        await ask(TimeoutError("socket"))


def test_the_first_cause_is_found_however_deep_it_lies() -> None:
    first, second = ValueError("first"), ValueError("second")
    assert first_cause(BaseExceptionGroup("a", [BaseExceptionGroup("b", [first, second]), second])) is first


# -- many calls, one timer


async def call(deadlines: EqualDeadlines, name: str, seconds: float) -> str:
    """Who answered, or was late, and when."""
    try:
        await deadlines.within(asyncio.sleep(seconds), role="rollout", what=name, key="run.x")
    except DeadlineMissed as late:
        assert late.cause == f"{name} took longer than 10 s (run.x)"
        return f"{name} late at {virtual_clock():g}"
    return f"{name} done at {virtual_clock():g}"


def test_each_call_has_its_own_deadline_and_a_late_one_ends_no_other() -> None:
    async def law() -> list[str]:
        deadlines, calls = EqualDeadlines(10.0), []
        for name, seconds in (("a", 3.0), ("b", 99.0), ("c", 9.0), ("d", 99.0), ("e", 2.0)):
            calls.append(asyncio.ensure_future(call(deadlines, name, seconds)))
            await asyncio.sleep(4.0)
        return await asyncio.gather(*calls)

    # Begun at 0, 4, 8, 12, 16; 10 s each.
    expected = ["a done at 3", "b late at 14", "c done at 17", "d late at 22", "e done at 18"]
    assert run_virtual(law()) == expected


def test_a_cancellation_from_outside_is_no_deadline_and_goes_on() -> None:
    async def law() -> None:
        deadlines = EqualDeadlines(10.0)
        asked = asyncio.ensure_future(call(deadlines, "a", 99.0))
        await asyncio.sleep(1.0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await call(deadlines, "b", 99.0) == "b late at 11"

    run_virtual(law())


def test_a_task_that_missed_a_deadline_is_not_left_cancelled() -> None:
    async def law() -> None:
        deadlines = EqualDeadlines(10.0)
        assert await call(deadlines, "a", 99.0) == "a late at 10"
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        # Nor one whose call turned the cancellation into a failure of its own.
        with pytest.raises(OSError, match="closed"):
            await deadlines.within(closes_late(), role="rollout", what="b", key="run.x")
        assert task.cancelling() == 0

    run_virtual(law())


async def closes_late() -> None:
    try:
        await asyncio.sleep(99.0)
    except asyncio.CancelledError:
        raise OSError("closed") from None


def test_time_that_stands_still_makes_no_call_late() -> None:
    """Begun at 0, 4 and 8; ten seconds each, of which none passes from 6 to 106."""

    async def law() -> list[str]:
        deadlines, calls = EqualDeadlines(10.0), []
        for name, seconds in (("a", 999.0), ("b", 109.0), ("c", 999.0)):
            calls.append(asyncio.ensure_future(call(deadlines, name, seconds)))
            await asyncio.sleep(2.0)
            if name == "b":
                deadlines.stand_still()
                deadlines.stand_still()
            await asyncio.sleep(2.0)
        await asyncio.sleep(94.0)
        deadlines.go_on()
        deadlines.go_on()
        calls.append(asyncio.ensure_future(call(deadlines, "d", 999.0)))
        return await asyncio.gather(*calls)

    # a had 4 s left, b 8 s, c, begun meanwhile, all of its 10; d begins at 106.
    assert run_virtual(law()) == ["a late at 110", "b done at 113", "c late at 116", "d late at 116"]


def test_nothing_is_late_while_time_stands_still() -> None:
    async def law() -> str:
        deadlines = EqualDeadlines(10.0)
        deadlines.stand_still()
        return await call(deadlines, "a", 5000.0)

    assert run_virtual(law()) == "a done at 5000"
