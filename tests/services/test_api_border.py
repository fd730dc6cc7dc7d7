"""What no request gets past: a foreign host, a body that is too long, half or wrong; and what every answer carries."""

from typing import Any

import pytest
from api_service import RUN, Service, check_problem

from services.api.border import BorderConfig
from services.reports import RunState
from services.run_state import Happening


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"timeout": 5}, "#/timeout"), ({"timeout_seconds": "soon"}, "#/timeout_seconds"), ([1], "#")],
)
async def test_a_body_that_does_not_fit_names_the_member(body: object, pointer: str) -> None:
    problem = check_problem(await Service().post(f"{RUN}/pause", json=body), 422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_body_that_is_not_json_is_malformed() -> None:
    headers = {"content-type": "application/json"}
    check_problem(await Service().post(f"{RUN}/pause", content=b"{nope", headers=headers), 400, "malformed")


async def test_a_body_of_another_type_is_refused_with_what_to_send() -> None:
    body = check_problem(await Service().post(f"{RUN}/pause", data={"mode": "drain"}), 422, "validation")
    assert "application/json" in body["errors"][0]["message"]


async def test_a_long_body_is_refused_before_it_is_read() -> None:
    service = Service(border=BorderConfig(max_body_bytes=100))
    await service.report(Happening.STARTED)
    body = check_problem(await service.post(f"{RUN}/pause", json={"reason": "x" * 100}), 413, "body-too-large")
    assert "100 bytes" in body["detail"]
    assert service.control.life.state is RunState.RUNNING


async def test_half_a_body_acts_as_none() -> None:
    service = Service()
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

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{RUN}/pause",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
    }
    await service.app(scope, receive, send)
    assert sent == []
    assert service.control.life.state is RunState.RUNNING


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", ""])
async def test_a_foreign_host_header_is_refused(host: str) -> None:
    check_problem(await Service().get("/healthz", headers={"host": host}), 403, "forbidden")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null"])
async def test_a_page_of_another_site_cannot_post(origin: str) -> None:
    service = Service()
    await service.report(Happening.STARTED)
    check_problem(await service.post(f"{RUN}/cancel", headers={"origin": origin}), 403, "forbidden")
    assert service.control.life.state is RunState.RUNNING


async def test_a_page_of_the_service_itself_can_post() -> None:
    service = Service()
    await service.report(Happening.STARTED)
    headers = {"origin": "http://127.0.0.1:8765"}
    assert (await service.post(f"{RUN}/pause", headers=headers)).status_code == 202


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765", "[::1]"])
async def test_loopback_names_are_served_with_any_port(host: str) -> None:
    assert (await Service().get("/healthz", headers={"host": host})).status_code == 200


async def test_any_host_is_served_where_the_border_says_so() -> None:
    service = Service(border=BorderConfig(allowed_hosts=None))
    assert (await service.get("/healthz", headers={"host": "head.cluster"})).status_code == 200


async def test_unknown_paths_and_methods_are_problems() -> None:
    service = Service()
    check_problem(await service.get("/v2/runs"), 404, "not-found")
    refused = await service.post("/healthz")
    check_problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == "GET"


async def test_a_crash_is_a_problem_without_detail() -> None:
    def crash() -> str:
        raise RuntimeError("secret path")

    service = Service(checks={"broken": crash}, raise_app_exceptions=False)
    body = check_problem(await service.get("/readyz"), 500, "internal")
    assert "secret" not in str(body)


async def test_every_answer_carries_its_own_request_id() -> None:
    service = Service()
    ids = {(await service.get("/healthz")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_openapi_names_every_operation_and_its_errors() -> None:
    document = (await Service().get("/openapi.json")).json()
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {path for _, path in operations} == {
        *("/healthz", "/readyz", "/version", "/metrics", "/v1/runs", "/v1/runs/{run_id}"),
        *("/v1/runs/{run_id}/operations", "/v1/runs/{run_id}/operations/{operation_id}", "/v1/runs/{run_id}/events"),
        *(f"/v1/runs/{{run_id}}/{call}" for call in ("pause", "resume", "cancel")),
    }
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    assert {"200", "202", "404", "409", "422"} <= set(operations["post", "/v1/runs/{run_id}/pause"]["responses"])
