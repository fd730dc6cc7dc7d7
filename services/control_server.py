"""A control plane with its HTTP server, as one object: the same behind the Ray actor and in house mode."""

import asyncio
import socket
import time
from collections.abc import Sequence
from importlib.metadata import version

from services.api.app import create_app
from services.api.border import border_of
from services.catalogue_entries import catalogue
from services.control import ControlPlane
from services.metrics import RunMetrics
from services.reports import Intent, RunDescription, RunReport
from services.serve_http import HttpServer, bind_port


class ControlServer:
    """Satisfies ControlPort; `serve` opens it to the outside."""

    def __init__(self, description: RunDescription) -> None:
        metrics = RunMetrics(description, catalogue=catalogue(), version=version("lessrl"), clock=time.time)
        self.plane = ControlPlane(description, metrics=metrics, clock=time.time)
        self._registry = metrics.registry
        self._server: HttpServer | None = None
        self._time: asyncio.Task[None] | None = None

    async def serve(self, host: str, port: int) -> str:
        """Answer HTTP from now on.

        Returns:
            The address, http://host:port.
        Raises:
            UserError: the port is in use.
        """
        bound: socket.socket = bind_port(host, port)
        app = create_app(self.plane, registry=self._registry, border=border_of(host))
        self._server = await HttpServer.start(app, bound)
        self._time = asyncio.create_task(self.plane.keep_time())
        return self._server.address

    async def remember(self, reports: Sequence[RunReport]) -> None:
        self.plane.remember(reports)

    async def report(self, report: RunReport) -> None:
        await self.plane.report(report)

    async def intent_after(self, generation: int) -> Intent:
        return await self.plane.intent_after(generation)

    async def close(self) -> None:
        """Stop answering; harmless when repeated."""
        if self._time is not None:
            self._time.cancel()
        if self._server is not None:
            await self._server.stop()
