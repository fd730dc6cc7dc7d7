"""A control plane behind a Transport that can go away, lose its store, and be asked the same thing twice."""

import asyncio
from collections.abc import Sequence

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.hosting.link import ControlAway, RunUnknown
from services.reports import ControlReport, Intent, IntentKind, RunDescription, RunReport


class FakeTransport:
    """Takes reports in by number, as a control plane does, and checks that none is left out."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.loses_answers = 0
        self.known: set[str] = set()
        self.registered: list[tuple[str, bool]] = []
        self.remembered: list[RunReport] = []
        self.taken: list[ControlReport] = []
        self.asked: list[str] = []
        self.refuses = ""
        self.is_closed = False

    async def register(self, description: RunDescription, link_id: str, *, resumed: bool) -> None:
        self._fail()
        # As over any wire, others may ask meanwhile.
        await asyncio.sleep(0)
        self.known.add(description.run_id)
        self.registered.append((link_id, resumed))

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None:
        self._check(run_id)
        self.remembered += reports

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        self._check(run_id)
        assert link_id == self.registered[-1][0]
        assert first_sequence <= len(self.taken) + 1, "a report was left out"
        self.taken += reports[len(self.taken) + 1 - first_sequence :]
        if self.loses_answers:
            self.loses_answers -= 1
            raise ControlAway("the answer is lost")
        return len(self.taken) + 1

    async def intent_after(self, run_id: str, generation: int) -> Intent:
        self._check(run_id)
        return Intent(generation=generation + 1, kind=IntentKind.RUN)

    async def pause(self, run_id: str, request: PauseRequest, caller: str) -> str:
        self._check(run_id)
        self.asked.append(f"pause {request.mode} {request.release} by {caller}")
        return self.refuses

    async def resume(self, run_id: str, request: ResumeRequest, caller: str) -> str:
        self._check(run_id)
        self.asked.append(f"resume by {caller}: {request.reason}")
        return ""

    async def cancel(self, run_id: str, request: CancelRequest, caller: str) -> str:
        self._check(run_id)
        self.asked.append(f"cancel with checkpoint {request.checkpoint} by {caller}")
        return ""

    async def close(self) -> None:
        self.is_closed = True

    def _check(self, run_id: str) -> None:
        self._fail()
        if run_id not in self.known:
            raise RunUnknown(run_id)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
