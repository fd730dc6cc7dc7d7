"""Deadlines: a role that hangs is named; whatever else a call does comes through."""

import asyncio

import pytest

from services.deadlines import within
from services.failures import first_cause
from shaping.errors import EngineRefused, RecordError, RunFailed


async def answer(value: object) -> object:
    if isinstance(value, BaseException):
        raise value
    return value


async def ask(value: object) -> object:
    return await within(20, answer(value), role="shaping", what="shaping by s0", key="run.x", group_id="g1")


async def test_an_answer_in_time_is_the_answer() -> None:
    assert await ask(5) == 5


async def test_no_answer_in_time_names_role_group_and_key() -> None:
    with pytest.raises(RunFailed) as caught:
        await within(0.01, asyncio.Event().wait(), role="learner", what="step 3", key="run.deadlines.step_seconds")
    assert str(caught.value) == "learner: step 3 took longer than 0.01 s (run.deadlines.step_seconds)"


async def test_a_broken_record_is_a_failure_of_the_role_that_gave_it() -> None:
    with pytest.raises(RunFailed, match=r"^shaping \(group g1\): shaping by s0: rewards must have 2 entries$"):
        await ask(RecordError("rewards must have 2 entries"))


@pytest.mark.parametrize("error", [EngineRefused("checksum"), RunFailed(role="rollout", cause="lost"), OSError("disk")])
async def test_other_failures_come_through_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await ask(error)
    assert caught.value is error


async def test_a_timeout_of_the_callee_is_not_mistaken_for_the_deadline() -> None:
    with pytest.raises(TimeoutError, match="socket"):
        await ask(TimeoutError("socket"))


def test_the_first_cause_is_found_however_deep_it_lies() -> None:
    first, second = ValueError("first"), ValueError("second")
    assert first_cause(BaseExceptionGroup("a", [BaseExceptionGroup("b", [first, second]), second])) is first
