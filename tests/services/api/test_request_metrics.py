"""What the control plane counts of its own requests: each, by its route's template, also those that are refused."""

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from report_builders import Clock
from starlette.types import Message, Receive, Scope, Send

from services.api.limits import StreamSlots
from services.api.request_metrics import UNMATCHED, RequestCounter, RequestMetrics


class Route:
    path = "/v1/runs/{run_id}"


def answering(status: int, clock: Clock, *, route: Route | None) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An app that takes a quarter of a second, and half a second more for its body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if route is not None:
            scope["route"] = route
        clock.now += 0.25
        await send({"type": "http.response.start", "status": status, "headers": []})
        clock.now += 0.5
        await send({"type": "http.response.body", "body": b""})

    return app


def call(metrics: RequestMetrics, status: int, *, route: Route | None = None, method: str = "GET") -> None:
    clock = Clock()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        del message

    app = RequestCounter(answering(status, clock, route=route), metrics=metrics, clock=clock)
    asyncio.run(app({"type": "http", "method": method, "path": "/v1/runs/run-1"}, receive, send))


def samples(metrics: RequestMetrics) -> dict[tuple[str, tuple[str, ...]], float]:
    text = generate_latest(metrics).decode()  # type: ignore[arg-type]
    families = text_string_to_metric_families(text)
    return {
        (each.name, tuple(value for _, value in sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


def test_a_request_is_counted_by_its_template_and_the_class_of_its_code() -> None:
    metrics = RequestMetrics(StreamSlots(4))
    call(metrics, 204, route=Route())
    call(metrics, 404, route=Route(), method="DELETE")
    found = samples(metrics)
    assert found["less_api_requests_total", ("2xx", "GET", Route.path)] == 1
    assert found["less_api_requests_total", ("4xx", "DELETE", Route.path)] == 1


def test_its_time_ends_where_its_answer_begins() -> None:
    metrics = RequestMetrics(StreamSlots(4))
    call(metrics, 200, route=Route())
    assert samples(metrics)["less_api_request_seconds_sum", (Route.path,)] == 0.25


def test_a_request_is_counted_under_no_word_of_its_sender() -> None:
    metrics = RequestMetrics(StreamSlots(4))
    call(metrics, 403, method="EVIL")
    # The path is there, and not for such a method.
    call(metrics, 405, route=Route(), method="EVIL")
    found = samples(metrics)
    assert found["less_api_requests_total", ("4xx", "any", UNMATCHED)] == 1
    assert found["less_api_requests_total", ("4xx", "any", Route.path)] == 1


def test_open_streams_are_shown_as_they_are_at_the_scrape() -> None:
    slots = StreamSlots(4)
    metrics = RequestMetrics(slots)
    assert samples(metrics)["less_api_stream_clients", ()] == 0
    slots.take()
    assert samples(metrics)["less_api_stream_clients", ()] == 1
