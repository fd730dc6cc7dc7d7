"""What the system asks of a run by signals, as the calls that a user would make.

SIGINT (Ctrl-C, a stopped job) cancels with a checkpoint. SIGTERM (pre-emption) pauses with a checkpoint and gives
everything back, and the process ends: `lessrl resume` goes on. A second signal, or one that comes before there is
anything to save, ends the process at once.
"""

import asyncio
import logging
import math
import signal
import time

from services.control.calls import CancelRequest, PauseRequest
from services.control.machine import Happening
from services.hosting.link import ControlAway, ControlLink
from services.reports import PauseMode, ReleaseLevel, RunEvent, RunReport
from services.stopwatch import Clock

CALL_SECONDS = 30.0
SAME_SECONDS = 1.0
"""The system may send one signal several times, as it does when a parent dies; a person presses again later."""

logger = logging.getLogger(__name__)


class RunSignals:
    """Make it in the task that runs; `install` again after a library has put handlers of its own in place.

    Args:
        grace_seconds: for the checkpoint of a cancel or a pause.
        clock: tells signals that are one from those that are two.
    """

    def __init__(self, *, grace_seconds: float, clock: Clock = time.monotonic) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._link: ControlLink | None = None
        self._has_begun = False
        self._asking: asyncio.Task[None] | None = None
        self._received_at = -math.inf
        self.is_preempted = False
        self.paused: RunEvent | None = None
        """What was said when the run paused, while it is paused."""

    def install(self) -> None:
        """Take SIGINT and SIGTERM of this process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._receive, number)

    def attach(self, link: ControlLink | None) -> None:
        """Ask this link once there is something to save; None: there is nothing any more."""
        self._link, self._has_begun, self.paused = link, False, None

    def show(self, report: RunReport) -> None:
        """Follow the run: from its first group on there is something to save."""
        kind = report.kind if isinstance(report, RunEvent) else ""
        if kind in (Happening.STARTED, Happening.RESUMED):
            self._has_begun, self.paused = True, None
        elif isinstance(report, RunEvent) and kind == Happening.PAUSED:
            self.paused = report
            # Without a link the sitting is over, and what says so ends the process itself.
            if self.is_preempted and self._link is not None:
                self._task.cancel()

    def _receive(self, number: signal.Signals) -> None:
        now = self._clock()
        if self._asking is not None and now - self._received_at < SAME_SECONDS:
            return
        self._received_at = now
        if self._link is None or not self._has_begun or self._asking is not None:
            self._task.cancel()
            return
        self._asking = asyncio.get_running_loop().create_task(self._ask(self._link, number))

    async def _ask(self, link: ControlLink, number: signal.Signals) -> None:
        name = number.name
        self.is_preempted = number is signal.SIGTERM
        if self.is_preempted and self.paused is not None:
            self._task.cancel()
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if self.is_preempted:
                    refused = await link.pause(self._pause(name), name)
                else:
                    refused = await link.cancel(self._cancel(name), name)
        except (ControlAway, TimeoutError) as error:
            logger.warning("%s ends the run at once: %s", name, str(error) or "the control plane gives no answer")
            self._task.cancel()
            return
        if refused and self.is_preempted:
            # A user's pause is under way: the process ends when the run is paused.
            logger.warning("%s waits for a pause: %s", name, refused)
            asyncio.get_running_loop().call_later(self._grace_seconds, self._task.cancel)
        elif refused:
            self._task.cancel()

    def _pause(self, reason: str) -> PauseRequest:
        return PauseRequest(
            mode=PauseMode.ABORT,
            checkpoint=True,
            release=ReleaseLevel.ALL,
            timeout_seconds=self._grace_seconds,
            ends_with_process=True,
            reason=reason,
        )

    def _cancel(self, reason: str) -> CancelRequest:
        return CancelRequest(checkpoint=True, grace_seconds=self._grace_seconds, reason=reason)
