"""What the system asks by a signal is what a user would ask, once there is something to save."""

import asyncio
import os
import signal

import pytest
from fake_transport import FakeTransport
from report_builders import Clock, make_description, make_event

from services.control.machine import Happening
from services.hosting.link import ControlAway, ControlLink
from services.hosting.signals import SAME_SECONDS, RunSignals


class Body:
    """The task that a run works in, waiting for ever."""

    def __init__(self, transport: FakeTransport, *, has_begun: bool) -> None:
        self.transport = transport
        self.has_begun = has_begun
        self.signals: RunSignals
        self.ready = asyncio.Event()
        self.clock = Clock()

    async def run(self) -> None:
        link = ControlLink(self.transport, make_description(), resumed=False)
        await link.open([], seconds=5)
        self.signals = RunSignals(grace_seconds=60.0, clock=self.clock)
        self.signals.install()
        self.signals.attach(link)
        if self.has_begun:
            self.signals.show(make_event(Happening.STARTED))
        self.ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.transport.failures.clear()
            await link.close(seconds=1)


async def begin(transport: FakeTransport, *, has_begun: bool = True) -> tuple[Body, "asyncio.Task[None]"]:
    body = Body(transport, has_begun=has_begun)
    task = asyncio.create_task(body.run())
    await body.ready.wait()
    return body, task


async def asked(transport: FakeTransport) -> str:
    async with asyncio.timeout(5):
        while not transport.asked:
            await asyncio.sleep(0)
    return transport.asked[0]


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_interrupt_cancels_with_a_checkpoint() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    os.kill(os.getpid(), signal.SIGINT)
    assert await asked(transport) == "cancel with checkpoint True by SIGINT"
    assert not body.signals.is_preempted
    assert not task.done()
    await end(task)


async def test_a_termination_pauses_and_gives_everything_back() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asked(transport) == "pause abort all by SIGTERM"
    assert body.signals.is_preempted
    await end(task)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_before_there_is_anything_to_save_a_signal_ends_the_run_at_once(number: signal.Signals) -> None:
    transport = FakeTransport()
    _, task = await begin(transport, has_begun=False)
    os.kill(os.getpid(), number)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert transport.asked == []


async def test_a_signal_that_the_system_repeats_is_one() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGINT)
        await asked(transport)
        body.clock.now += SAME_SECONDS / 4
    assert not task.done() and len(transport.asked) == 1
    await end(task)


async def test_a_second_signal_waits_for_nothing() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    os.kill(os.getpid(), signal.SIGINT)
    await asked(transport)
    body.clock.now += SAME_SECONDS
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_a_control_plane_that_is_away_does_not_keep_a_run_alive() -> None:
    transport = FakeTransport()
    _, task = await begin(transport)
    transport.failures = [ControlAway("restarting")]
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_a_termination_of_a_paused_run_ends_its_process_and_asks_for_nothing() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    body.signals.show(make_event(Happening.PAUSED))
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert body.signals.is_preempted
    assert body.signals.paused is not None
    assert transport.asked == []


async def test_a_termination_during_another_pause_lets_that_finish_first() -> None:
    transport = FakeTransport()
    transport.refuses = "a pause with another body is under way"
    body, task = await begin(transport)
    os.kill(os.getpid(), signal.SIGTERM)
    await asked(transport)
    assert not task.done()
    body.signals.show(make_event(Happening.PAUSED))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert body.signals.paused is not None


async def test_a_run_that_was_resumed_is_not_paused_any_more() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    body.signals.show(make_event(Happening.PAUSED))
    body.signals.show(make_event(Happening.RESUMED))
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asked(transport) == "pause abort all by SIGTERM"
    await end(task)


async def test_what_a_sitting_says_at_its_end_cancels_nothing() -> None:
    transport = FakeTransport()
    body, task = await begin(transport)
    os.kill(os.getpid(), signal.SIGTERM)
    await asked(transport)
    body.signals.attach(None)
    body.signals.show(make_event(Happening.PAUSED))
    await asyncio.sleep(0)
    assert not task.done() and not task.cancelling()
    await end(task)
