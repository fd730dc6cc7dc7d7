"""The control plane's application over ASGI, without a socket, and the shape that every error must have."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from report_builders import Clock, make_description, make_event
from starlette.types import Message

from services.api.access import Access
from services.api.app import create_app
from services.api.auth import Role, Token
from services.api.limits import Limits
from services.api.routes.service import Check
from services.control.launcher import Launch, RunLauncher
from services.control.plane import ControlPlane
from services.control.redaction import Redactor
from services.control.store import open_store
from services.reports import ControlReport, RunDescription, RunState

RUN = "/v1/runs/run-1"
TOKENS = {role: f"token-of-{role.value}-0123456789" for role in Role}
WITH_TOKENS = tuple(Token.of(f"{role.value}er", role, text) for role, text in TOKENS.items())
FREE = Limits(reads_per_second=1e6, writes_per_second=1e6, read_burst=1_000_000, write_burst=1_000_000)


class IdleLauncher:
    """Of a control plane that may start runs, and has no reconciler that would."""

    def launch(self, launch: Launch) -> None:
        raise AssertionError(f"nobody ticks here, found {launch}")

    def is_alive(self, run_dir: Path) -> bool | None:
        del run_dir

    def kill(self, run_dir: Path) -> None:
        raise AssertionError(f"nobody ticks here, found {run_dir}")


class Service:
    """A control plane behind its application, and a client. Make it with `open_service`."""

    def __init__(self, plane: ControlPlane, app: FastAPI, clock: Clock, client_address: str) -> None:
        self.plane = plane
        self.app = app
        self.clock = clock
        self._sequences: dict[str, int] = {}
        transport = httpx.ASGITransport(app=app, client=(client_address, 50_000))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765")

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.post(path, **more)

    async def patch(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.patch(path, **more)

    async def delete(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.delete(path, **more)

    async def register(self, description: RunDescription, **more: Any) -> None:
        await self.plane.register(description, link_id=f"link-of-{description.run_id}", **more)

    async def say(self, *reports: ControlReport, run_id: str = "run-1") -> None:
        """What the run's process reports, numbered as a link numbers it."""
        first = self._sequences.get(run_id, 1)
        self._sequences[run_id] = await self.plane.report(run_id, f"link-of-{run_id}", first, reports)

    async def report(
        self, kind: str, state: RunState = RunState.RUNNING, message: str = "", *, run_id: str = "run-1", **more: Any
    ) -> None:
        details = more.pop("details", {})
        await self.say(replace(make_event(kind, message, state, **more), details=details), run_id=run_id)


@asynccontextmanager
async def open_service(
    *,
    access: Access | None = None,
    checks: Mapping[str, Check] | None = None,
    launcher: RunLauncher | None = None,
    runs_dir: Path | None = None,
    descriptions: tuple[RunDescription, ...] | None = None,
    client_address: str = "127.0.0.1",
    redactor: Redactor | None = None,
    **more: Any,
) -> AsyncIterator[Service]:
    """A service with one run, `run-1`, or with those that are given.

    Args:
        access: without limits of its own: no limits of requests a second.
        client_address: that requests seem to come from.
    """
    clock = Clock(1_700_000_000.0)
    plane = ControlPlane(
        open_store(":memory:"), clock=clock, launcher=launcher, runs_dir=runs_dir, redactor=redactor or Redactor()
    )
    await plane.open()
    app = create_app(
        plane, registry=plane.registry, access=access or Access(limits=FREE), checks=checks, clock=clock, **more
    )
    service = Service(plane, app, clock, client_address)
    for description in (make_description(),) if descriptions is None else descriptions:
        await service.register(description)
    try:
        yield service
    finally:
        await service.client.aclose()
        app.state.views.close()
        await plane.close()


class EventStream:
    """Server-sent events of one answer, as they come. Make it with `open_stream`.

    Attributes:
        body: of an answer that is no stream, as it stands when the answer has ended.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._begun = asyncio.Event()
        self._events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._rest = ""

    async def take(self, message: Message) -> None:
        """What the application sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self._begun.set()
            return
        self.body += message.get("body", b"")
        *blocks, self._rest = (self._rest + message.get("body", b"").decode()).split("\n\n")
        for block in blocks:
            lines = [line.partition(":") for line in block.splitlines()]
            self._events.put_nowait({name or "comment": value.strip() for name, _, value in lines})

    async def begin(self) -> None:
        await self._begun.wait()

    async def next(self) -> dict[str, Any]:
        """The next event: its fields, `data` as JSON."""
        found: dict[str, Any] = await asyncio.wait_for(self._events.get(), 5)
        return {**found, "data": json.loads(found["data"])} if "data" in found else found


@asynccontextmanager
async def open_stream(
    service: Service, path: str, headers: Mapping[str, str] | None = None, *, query: str = ""
) -> AsyncIterator[EventStream]:
    """Ask for a stream, and leave at the end."""
    stream, left = EventStream(), asyncio.Event()
    first = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if first:
            return first.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    named = {"host": "127.0.0.1", **(headers or {})}
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    answering = asyncio.create_task(service.app(scope, receive, stream.take))
    try:
        await stream.begin()
        yield stream
    finally:
        left.set()
        await asyncio.wait_for(answering, 5)


def bearer(role: Role) -> dict[str, str]:
    """Headers of whoever has a token of `TOKENS`."""
    return {"authorization": f"Bearer {TOKENS[role]}"}


def check_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status, body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:lessrl:problem:{slug}", body
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert body["instance"] == f"urn:uuid:{response.headers['x-request-id']}"
    return body
