"""What the control plane tells Prometheus of itself: its requests by route, and its open streams."""

import time
from collections.abc import Callable, Iterable, Iterator

from fastapi.routing import APIRoute
from prometheus_client import Metric
from prometheus_client.registry import Collector
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.limits import StreamSlots
from services.metrics.families import CODES, FAMILIES
from services.metrics.values import FamilyValues

UNMATCHED = "unmatched"
"""Route of requests that were refused before one was found, and of paths that are none."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Any other word is counted as "any"."""


class RequestMetrics(Collector):
    """Counts of one app's requests; a collector.

    Args:
        slots: of its streams.
    """

    def __init__(self, slots: StreamSlots) -> None:
        self._values = FamilyValues(family for family in FAMILIES if not family.of_run)
        self._slots = slots

    def expect(self, routes: Iterable[BaseRoute]) -> None:
        """Show every route of the API from the start, so that a rate sees its first request."""
        for route in routes:
            if isinstance(route, APIRoute):
                for method in sorted(route.methods):
                    for code in CODES:
                        self._values.add("less_api_requests_total", 0, method=method, route=route.path, code=code)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request got its answer.

        Args:
            seconds: until the answer began.
        """
        code = f"{status // 100}xx"
        if code in CODES:
            self._values.add("less_api_requests_total", 1, method=method, route=route, code=code)
            self._values.observe("less_api_request_seconds", seconds, route=route)

    def collect(self) -> Iterator[Metric]:
        self._values.set("less_api_stream_clients", self._slots.num_open)
        return self._values.collect()


class Together(Collector):
    """Several collectors as one, in their order."""

    def __init__(self, *collectors: Collector) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for each in self._collectors:
            yield from each.collect()


class RequestCounter:
    """ASGI middleware, outside of all others: counts what they refuse too."""

    def __init__(
        self, app: ASGIApp, *, metrics: RequestMetrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", UNMATCHED)
                # A closed set: a stranger may send any word, to a path that there is, too.
                method = scope["method"] if route != UNMATCHED and scope["method"] in METHODS else "any"
                self._metrics.count(method, route, message["status"], self._clock() - began)
            await send(message)

        await self._app(scope, receive, counting)
