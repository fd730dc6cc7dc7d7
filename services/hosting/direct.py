"""A control plane of this very process, as the transport of a link; a host elsewhere passes its calls on to one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import Refused
from services.control.plane import ControlPlane
from services.control.records import Caller, StoreError
from services.control.run import RunControl
from services.hosting.link import ControlAway, RunUnknown
from services.reports import ControlReport, Intent, RunDescription, RunReport

OPERATE = "operate"


class DirectTransport:
    """Transport to a plane that the host keeps; closing it leaves the plane as it is."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def register(self, description: RunDescription, link_id: str, *, resumed: bool) -> None:
        with _store_is_away():
            await self._plane.register(description, link_id=link_id, resumed=resumed)

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None:
        self._find(run_id)
        with _store_is_away():
            await self._plane.remember(run_id, reports)

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        self._find(run_id)
        with _store_is_away():
            return await self._plane.report(run_id, link_id, first_sequence, reports)

    async def intent_after(self, run_id: str, generation: int) -> Intent:
        self._find(run_id)
        return await self._plane.intent_after(run_id, generation)

    async def pause(self, run_id: str, request: PauseRequest, caller: str) -> str:
        with _store_is_away():
            answer = await self._find(run_id).pause(request, Caller(name=caller, role=OPERATE))
        return answer.detail if isinstance(answer, Refused) else ""

    async def resume(self, run_id: str, request: ResumeRequest, caller: str) -> str:
        with _store_is_away():
            answer = await self._find(run_id).resume(request, Caller(name=caller, role=OPERATE))
        return answer.detail if isinstance(answer, Refused) else ""

    async def cancel(self, run_id: str, request: CancelRequest, caller: str) -> str:
        with _store_is_away():
            answer = await self._find(run_id).cancel(request, Caller(name=caller, role=OPERATE))
        return answer.detail if isinstance(answer, Refused) else ""

    async def close(self) -> None:
        """Nothing of its own to close."""

    def _find(self, run_id: str) -> RunControl:
        run = self._plane.run(run_id)
        if run is None:
            raise RunUnknown(run_id)
        return run


@contextmanager
def _store_is_away() -> Iterator[None]:
    """A store that does not answer now is, to a run, a control plane that does not: it is asked again."""
    try:
        yield
    except StoreError as error:
        raise ControlAway(str(error)) from error
