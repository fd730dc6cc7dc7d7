"""Ray shell of a control plane: detached, named, started again by Ray when it dies. Decides nothing."""

import contextlib
from collections.abc import Sequence
from importlib.metadata import version

from services.collector import collected_rarely
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.hosting.server import ControlOptions, ControlServer
from services.reports import ControlReport, Intent, RunDescription, RunReport


class ControlActor:
    """ControlServer in an actor of its own, with the calls of `services.hosting.link.Transport`."""

    async def __init__(self, options: ControlOptions) -> None:  # type: ignore[misc]
        # For the life of this process.
        self._collector = contextlib.ExitStack()
        self._collector.enter_context(collected_rarely())
        # Here and not in a call: an actor that Ray started again must answer HTTP before anybody calls it.
        self._server = ControlServer(options)
        await self._server.start()
        self._transport = self._server.transport

    async def whereabouts(self) -> tuple[str, str]:
        """Version of lessrl, and address."""
        return version("lessrl"), self._server.address

    async def register(self, description: RunDescription, link_id: str, *, resumed: bool) -> None:
        await self._transport.register(description, link_id, resumed=resumed)

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None:
        await self._transport.remember(run_id, reports)

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        return await self._transport.report(run_id, link_id, first_sequence, reports)

    async def intent_after(self, run_id: str, generation: int) -> Intent:
        return await self._transport.intent_after(run_id, generation)

    async def pause(self, run_id: str, request: PauseRequest, caller: str) -> str:
        return await self._transport.pause(run_id, request, caller)

    async def resume(self, run_id: str, request: ResumeRequest, caller: str) -> str:
        return await self._transport.resume(run_id, request, caller)

    async def cancel(self, run_id: str, request: CancelRequest, caller: str) -> str:
        return await self._transport.cancel(run_id, request, caller)

    async def close(self) -> None:
        await self._server.close()
