"""Ray shell of the control plane. Decides nothing."""

from collections.abc import Sequence

from services.control_server import ControlServer
from services.reports import Intent, RunDescription, RunReport


class ControlActor:
    """ControlServer in an actor of its own."""

    def __init__(self, description: RunDescription) -> None:
        self._description = description
        self._server: ControlServer

    async def serve(self, host: str, port: int) -> str:
        self._server = ControlServer(self._description)
        return await self._server.serve(host, port)

    async def remember(self, reports: Sequence[RunReport]) -> None:
        await self._server.remember(reports)

    async def report(self, report: RunReport) -> None:
        await self._server.report(report)

    async def intent_after(self, generation: int) -> Intent:
        return await self._server.intent_after(generation)

    async def close(self) -> None:
        await self._server.close()
