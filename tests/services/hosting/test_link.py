"""A run's reports reach its control plane in order and once, whatever becomes of the way there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fake_transport import FakeTransport
from report_builders import make_description, make_event

from services.hosting import link as link_module
from services.hosting.link import ControlAway, ControlLink, RunUnknown
from services.reports import RunEvent

RUN_ID = make_description().run_id


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_WAIT_SECONDS", 0.001)


@asynccontextmanager
async def opened(transport: FakeTransport, *, resumed: bool = False) -> AsyncIterator[ControlLink]:
    link = ControlLink(transport, make_description(), resumed=resumed)
    await link.open([], seconds=5)
    try:
        yield link
    finally:
        await link.close(seconds=5)


def kinds(transport: FakeTransport) -> list[str]:
    return [each.kind for each in transport.taken if isinstance(each, RunEvent)]


async def test_reports_arrive_in_order_and_are_all_there_when_the_link_is_closed() -> None:
    transport = FakeTransport()
    async with opened(transport) as link:
        for number in range(1200):
            await link.report(make_event(f"e{number}"))
    assert kinds(transport) == [f"e{number}" for number in range(1200)]
    assert transport.is_closed


async def test_a_control_plane_that_is_away_delays_reports_and_loses_none() -> None:
    transport = FakeTransport()
    async with opened(transport) as link:
        transport.failures = [ControlAway("restarting")] * 5
        await link.report(make_event("before"))
        await link.report(make_event("after"))
    assert kinds(transport) == ["before", "after"]


async def test_a_report_whose_answer_was_lost_is_sent_again_under_its_own_number() -> None:
    transport = FakeTransport()
    async with opened(transport) as link:
        transport.loses_answers = 2
        for number in range(3):
            await link.report(make_event(f"e{number}"))
    assert kinds(transport) == ["e0", "e1", "e2"]


async def test_a_control_plane_that_lost_its_store_is_told_of_the_run_again_with_its_history() -> None:
    transport, history = FakeTransport(), [make_event("started")]
    link = ControlLink(transport, make_description(), resumed=True)
    await link.open(history, seconds=5)
    transport.known.clear()
    transport.taken.clear()
    await link.report(make_event("later"))
    await link.close(seconds=5)
    (first, _), (second, _) = transport.registered
    assert first == second, "one process is one link"
    assert transport.remembered == history * 2
    assert kinds(transport) == ["later"]


async def test_training_never_waits_for_a_report() -> None:
    transport = FakeTransport()
    async with opened(transport) as link:
        transport.failures = [ControlAway("away")] * 3
        # Not one turn of the loop: an await that had to wait would give the sender its turn.
        await link.report(make_event("e"))
        assert transport.taken == []


async def test_an_intent_is_waited_for_through_an_absence() -> None:
    transport = FakeTransport()
    async with opened(transport) as link:
        transport.failures = [ControlAway("away"), RunUnknown(RUN_ID), ControlAway("away")]
        assert (await link.intent_after(4)).generation == 5


async def test_calls_that_learn_together_that_the_run_is_unknown_make_it_known_once() -> None:
    transport = FakeTransport()
    async with opened(transport) as link:
        transport.known.clear()
        await asyncio.gather(link.intent_after(4), link.intent_after(5), link.intent_after(6))
        assert len(transport.registered) == 2


async def test_a_link_that_nobody_answers_fails_to_open_within_its_time() -> None:
    transport = FakeTransport()
    transport.failures = [ControlAway("away")] * 10_000
    with pytest.raises(ControlAway, match=r"no answer within 0\.05 s"):
        await ControlLink(transport, make_description(), resumed=False).open([], seconds=0.05)


async def test_closing_does_not_wait_for_ever_for_a_control_plane_that_is_gone() -> None:
    transport = FakeTransport()
    link = ControlLink(transport, make_description(), resumed=False)
    await link.open([], seconds=5)
    transport.failures = [ControlAway("gone")] * 10_000
    await link.report(make_event("e"))
    async with asyncio.timeout(5):
        await link.close(seconds=0.05)
    assert transport.is_closed
