"""What no request gets past: a foreign host, a body that is too long, half or wrong; and what every answer carries."""

import asyncio
from typing import Any

import pytest
from api_service import FREE, RUN, Service, check_problem, open_service
from starlette.types import Message

from services.api.access import LOOPBACK_NAMES, Access
from services.api.border import Border
from services.api.limits import Limits
from services.control.machine import Happening
from services.control.records import StoreError
from services.reports import RunState


def state_of(service: Service) -> RunState:
    run = service.plane.run("run-1")
    assert run is not None
    return run.life.state


async def test_a_body_that_does_not_fit_names_the_member() -> None:
    cases: list[tuple[object, str]] = [
        ({"timeout": 5}, "#/timeout"),
        ({"timeout_seconds": "soon"}, "#/timeout_seconds"),
        ({"timeout_seconds": True}, "#/timeout_seconds"),
        ({"timeout_seconds": 1e12}, "#/timeout_seconds"),
        ({"mode": "stop"}, "#/mode"),
        ({"reason": "nul \0"}, "#/reason"),
        ({"reason": "x" * 501}, "#/reason"),
        ([1], "#"),
    ]
    async with open_service() as service:
        for body, pointer in cases:
            problem = check_problem(await service.post(f"{RUN}/pause", json=body), 422, "validation")
            assert [error["pointer"] for error in problem["errors"]] == [pointer]
        assert state_of(service) is RunState.STARTING


async def test_a_body_that_is_not_json_is_malformed() -> None:
    headers = {"content-type": "application/json"}
    async with open_service() as service:
        for text in (b"{nope", b"[" * 100_000, b'{"reason": "\xff"}'):
            check_problem(await service.post(f"{RUN}/pause", content=text, headers=headers), 400, "malformed")


async def test_json_that_python_takes_and_the_world_does_not_is_refused() -> None:
    headers = {"content-type": "application/json"}
    async with open_service() as service:
        for text in (b'{"timeout_seconds": NaN}', b'{"timeout_seconds": 1e999}', b'{"reason": "\\ud800"}'):
            check_problem(await service.post(f"{RUN}/pause", content=text, headers=headers), 422, "validation")


async def test_a_body_of_another_type_is_refused_with_what_to_send() -> None:
    async with open_service() as service:
        body = check_problem(await service.post(f"{RUN}/pause", data={"mode": "drain"}), 422, "validation")
        assert "application/json" in body["errors"][0]["message"]


async def test_a_long_body_is_refused_before_it_is_read() -> None:
    async with open_service(access=Access(limits=Limits(max_body_bytes=100))) as service:
        await service.report(Happening.STARTED)
        body = check_problem(await service.post(f"{RUN}/pause", json={"reason": "x" * 100}), 413, "body-too-large")
        assert "100 bytes" in body["detail"]
        assert state_of(service) is RunState.RUNNING


async def test_long_headers_are_refused() -> None:
    async with open_service() as service:
        check_problem(await service.get("/healthz", headers={"x-more": "y" * 20_000}), 431, "headers-too-large")


async def test_half_a_body_acts_as_none() -> None:
    async with open_service() as service:
        await service.report(Happening.STARTED)
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": b"", "more_body": True},
            {"type": "http.disconnect"},
        ]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await service.app(make_scope(f"{RUN}/pause", "POST"), receive, send)
        assert sent == []
        assert state_of(service) is RunState.RUNNING


async def test_a_foreign_host_header_is_refused() -> None:
    async with open_service() as service:
        for host in ("evil.example", "127.0.0.1.evil.example:8765", ""):
            check_problem(await service.get("/healthz", headers={"host": host}), 403, "forbidden")


async def test_a_page_of_another_site_cannot_post() -> None:
    async with open_service() as service:
        await service.report(Happening.STARTED)
        for origin in ("https://evil.example", "http://127.0.0.1.evil.example", "null"):
            check_problem(await service.post(f"{RUN}/cancel", headers={"origin": origin}), 403, "forbidden")
        assert state_of(service) is RunState.RUNNING


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_a_page_of_another_port_of_this_machine_cannot_post(site: str) -> None:
    # A form without a body: no preflight is asked for, and the name in Origin is the service's own.
    headers = {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": site}
    async with open_service() as service:
        check_problem(await service.post(f"{RUN}/cancel", headers=headers), 403, "forbidden")
        assert state_of(service) is RunState.STARTING
        assert (await service.get(RUN, headers=headers)).status_code == 200
        own = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}
        assert (await service.post(f"{RUN}/cancel", headers=own)).status_code == 202


async def test_a_page_of_the_service_itself_can_post() -> None:
    async with open_service() as service:
        await service.report(Happening.STARTED)
        headers = {"origin": "http://127.0.0.1:8765"}
        assert (await service.post(f"{RUN}/pause", headers=headers)).status_code == 202


async def test_loopback_names_are_served_with_any_port() -> None:
    async with open_service() as service:
        for host in ("localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765", "[::1]"):
            assert (await service.get("/healthz", headers={"host": host})).status_code == 200, host


async def test_a_name_is_served_where_it_is_allowed_and_the_address_that_was_connected_to() -> None:
    allowed = Access(allowed_hosts=(*LOOPBACK_NAMES, "head.cluster"), limits=FREE)
    async with open_service(access=allowed) as service:
        assert (await service.get("/healthz", headers={"host": "head.cluster:1"})).status_code == 200
        status = await answer_status(service, server=("10.0.0.5", 80), host="10.0.0.5")
        assert status == 200
        # What a browser was led to by a name of its own is not a number.
        assert await answer_status(service, server=("evil.example", 80), host="evil.example") == 403
        assert await answer_status(service, server=("10.0.0.5", 80), host="10.0.0.6") == 403


async def test_unknown_paths_and_methods_are_problems() -> None:
    async with open_service() as service:
        check_problem(await service.get("/v2/runs"), 404, "not-found")
        refused = await service.post("/healthz")
        check_problem(refused, 405, "method-not-allowed")
        assert refused.headers["allow"] == "GET"


async def test_a_crash_is_a_problem_without_detail(caplog: pytest.LogCaptureFixture) -> None:
    def crash() -> str:
        raise RuntimeError("secret path")

    async with open_service(checks={"broken": crash}) as service:
        response = await service.get("/readyz")
        body = check_problem(response, 500, "internal")
        assert "secret" not in str(body)
        assert response.headers["x-frame-options"] == "DENY"
    assert "secret path" in caplog.text


async def test_a_store_that_fails_is_said_and_changes_nothing() -> None:
    async with open_service() as service:
        await service.report(Happening.STARTED)

        async def fail(*_: object) -> None:
            raise StoreError("disk full (control.sqlite)")

        service.plane._storage.commit = fail  # type: ignore[method-assign, assignment]
        response = await service.post(f"{RUN}/pause")
        body = check_problem(response, 503, "not-ready")
        assert "disk full" not in body["detail"]
        assert response.headers["retry-after"] == "5"
        assert state_of(service) is RunState.RUNNING


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def never_answers(*_: object) -> None:
        await asyncio.Event().wait()

    border = Border(never_answers, allowed_hosts=LOOPBACK_NAMES, limits=Limits(request_seconds=0.01))
    assert await first_message(border) == {"status": 504}


async def test_an_answer_that_has_begun_may_take_its_time() -> None:
    async def streams(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"late"})

    border = Border(streams, allowed_hosts=LOOPBACK_NAMES, limits=Limits(request_seconds=0.01))
    sent = await messages_of(border)
    assert [message.get("body") for message in sent] == [None, b"late"]


async def test_a_client_that_takes_nothing_is_dropped() -> None:
    num_asked = 0

    async def streams(_scope: object, _receive: object, send: Any) -> None:
        nonlocal num_asked
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            num_asked += 1
            await send({"type": "http.response.body", "body": b"more", "more_body": True})

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    border = Border(streams, allowed_hosts=LOOPBACK_NAMES, limits=Limits(send_seconds=0.01))
    await border(make_scope("/healthz"), empty_body, stuck)
    assert num_asked == 1


async def test_every_answer_carries_its_own_request_id() -> None:
    async with open_service() as service:
        ids = {(await service.get("/healthz")).headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3


async def test_every_answer_carries_the_headers_that_keep_browsers_in_line() -> None:
    nothing, own = "default-src 'none'; frame-ancestors 'none'", "default-src 'self'"
    policies = {"/v1/runs": nothing, "/docs": nothing, "/v1/none": nothing, "/": own, "/ui/none.js": own}
    async with open_service() as service:
        for path, policy in policies.items():
            headers = (await service.get(path)).headers
            assert headers["content-security-policy"].startswith(policy), path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] in ("no-store", "no-cache")
            assert not {name for name in headers if name.startswith("access-control-")}


def make_scope(
    path: str, method: str = "GET", *, server: tuple[str, int] = ("127.0.0.1", 80), host: str = "127.0.0.1"
) -> dict[str, Any]:
    headers = [(b"host", host.encode())]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": headers,
        "server": server,
        "client": ("127.0.0.1", 1),
    }


async def empty_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def messages_of(app: Any, scope: dict[str, Any] | None = None) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope or make_scope("/healthz"), empty_body, send)
    return sent


async def first_message(app: Any) -> dict[str, Any]:
    return {"status": (await messages_of(app))[0]["status"]}


async def answer_status(service: Service, *, server: tuple[str, int], host: str) -> int:
    status: int = (await messages_of(service.app, make_scope("/healthz", server=server, host=host)))[0]["status"]
    return status
