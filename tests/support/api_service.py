"""The control plane's application over ASGI, without a socket, and the shape that every error must have."""

from typing import Any

import httpx
from report_builders import Clock, make_description, make_event

from services.api.app import create_app
from services.api.border import BorderConfig
from services.api.health import Check
from services.catalogue_entries import catalogue
from services.control import ControlPlane
from services.metrics import RunMetrics
from services.reports import RunState

RUN = "/v1/runs/run-1"


class Service:
    """A control plane behind its application, and a client."""

    def __init__(
        self,
        *,
        checks: dict[str, Check] | None = None,
        border: BorderConfig | None = None,
        raise_app_exceptions: bool = True,
    ) -> None:
        self.clock = Clock(1_700_000_000.0)
        description = make_description()
        metrics = RunMetrics(description, catalogue=catalogue(), version="0.1.0", clock=self.clock)
        self.control = ControlPlane(description, metrics=metrics, clock=self.clock)
        self.app = create_app(self.control, registry=metrics.registry, checks=checks, border=border)
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=raise_app_exceptions)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765")

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.post(path, **more)

    async def report(self, kind: str, state: RunState = RunState.RUNNING, message: str = "", **more: Any) -> None:
        await self.control.report(make_event(kind, message, state, **more))


def check_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:lessrl:problem:{slug}"
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert body["instance"] == f"urn:uuid:{response.headers['x-request-id']}"
    return body
