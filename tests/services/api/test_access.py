"""Who may call what: every path of the description, with no token, a wrong one, and one of each role."""

import re
from typing import Any

import httpx
import pytest
from api_service import FREE, RUN, TOKENS, WITH_TOKENS, Service, bearer, check_problem, open_service
from prometheus_client import CollectorRegistry

from services.api.access import Access
from services.api.app import create_app
from services.api.auth import Role
from services.api.limits import Limits
from services.api.openapi import openapi_document
from services.hosting.direct import DirectTransport

ACCESS = Access(tokens=WITH_TOKENS, limits=FREE)
OPEN = {"get_health", "get_readiness"}
ADMIN_ONLY = {"delete_run", "delete_checkpoint", "restart_worker", "drain_worker", "list_audit", "shut_down"}
READ_POSTS = {"create_stream_ticket"}

OPERATIONS = [
    (method.upper(), path, operation["operationId"])
    for path, methods in openapi_document()["paths"].items()
    for method, operation in methods.items()
]


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "x-1", path.replace("{run_id}", "run-1"))


async def ask(service: Service, method: str, path: str, headers: dict[str, str]) -> Any:
    more: dict[str, Any] = {"json": {}} if method in ("POST", "PATCH") else {}
    return await service.client.request(method, filled(path), headers=headers, **more)


async def test_without_a_known_token_nothing_but_health_is_answered() -> None:
    async with open_service(access=ACCESS, client_address="10.0.0.7") as service:
        for method, path, operation in OPERATIONS:
            for headers in ({}, {"authorization": "Bearer wrong-token-0123456789"}):
                response = await ask(service, method, path, headers)
                if operation in OPEN:
                    assert response.status_code in (200, 503)
                    continue
                check_problem(response, 401, "unauthorized")
                assert response.headers["www-authenticate"].startswith("Bearer")
        for path in ("/v1/none", "/docs", "/openapi.json", "/internal/v1/runs/run-1/intent"):
            check_problem(await service.get(path), 401, "unauthorized")


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_call_what_it_is_for_and_no_more(role: Role) -> None:
    async with open_service(access=ACCESS, client_address="10.0.0.7") as service:
        for method, path, operation in OPERATIONS:
            if path.endswith("/stream"):
                continue
            response = await ask(service, method, path, bearer(role))
            is_read = method == "GET" or operation in READ_POSTS
            needed = Role.ADMIN if operation in ADMIN_ONLY else Role.READ if is_read else Role.OPERATE
            assert (response.status_code == 403) == (not role.may(needed)), (operation, response.text)
            assert response.status_code < 500 or operation == "get_readiness"


async def test_a_refusal_names_the_role_and_the_caller() -> None:
    async with open_service(access=ACCESS) as service:
        response = await service.post(f"{RUN}/pause", headers=bearer(Role.READ))
        body = check_problem(response, 403, "forbidden")
        assert "operate" in body["detail"] and "reader" in body["detail"]
        assert TOKENS[Role.READ] not in response.text


async def test_loopback_may_scrape_and_read_the_docs_without_a_token_and_others_may_not() -> None:
    paths = ("/metrics", "/docs", "/openapi.json", "/version")
    async with open_service(access=ACCESS) as service:
        assert {path: (await service.get(path)).status_code for path in paths} == dict.fromkeys(paths, 200)
        check_problem(await service.get(RUN), 401, "unauthorized")
    async with open_service(access=ACCESS, client_address="10.0.0.7") as service:
        for path in paths:
            check_problem(await service.get(path), 401, "unauthorized")
            assert (await service.get(path, headers=bearer(Role.READ))).status_code == 200


async def test_strangers_hear_that_something_is_wrong_and_not_what() -> None:
    checks = {"ray": lambda: "no head node at 10.0.0.9"}
    async with open_service(access=ACCESS, checks=checks, client_address="10.0.0.7") as service:
        assert (await service.get("/readyz")).json()["checks"]["ray"] == "not ok"
        known = await service.get("/readyz", headers=bearer(Role.READ))
        assert known.json()["checks"]["ray"] == "no head node at 10.0.0.9"


async def test_a_caller_who_asks_too_often_is_told_when_to_come_back() -> None:
    limits = Limits(read_burst=2, reads_per_second=0.5, write_burst=1, writes_per_second=0.25)
    async with open_service(access=Access(tokens=WITH_TOKENS, limits=limits)) as service:
        headers = bearer(Role.READ)
        assert [(await service.get(RUN, headers=headers)).status_code for _ in range(3)] == [200, 200, 429]
        refused = await service.get(RUN, headers=headers)
        check_problem(refused, 429, "rate-limited")
        assert refused.headers["retry-after"] == "2"
        # Others, other kinds of call, and what watches the service itself go on.
        assert (await service.get(RUN, headers=bearer(Role.ADMIN))).status_code == 200
        assert (await service.post("/v1/stream-tickets", headers=headers)).status_code == 201
        assert (await service.post("/v1/stream-tickets", headers=headers)).headers["retry-after"] == "4"
        for path in ("/healthz", "/version", "/metrics"):
            assert {(await service.get(path)).status_code for _ in range(5)} == {200}
        service.clock.now += 2.0
        assert (await service.get(RUN, headers=headers)).status_code == 200


async def test_whoever_guesses_tokens_is_slowed_down_by_address() -> None:
    limits = Limits(read_burst=3, reads_per_second=1.0)
    async with open_service(access=Access(tokens=WITH_TOKENS, limits=limits), client_address="10.0.0.7") as service:
        guesses = [{"authorization": f"Bearer guess-number-{number:08}"} for number in range(5)]
        statuses = [(await service.get(RUN, headers=headers)).status_code for headers in guesses]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await service.get(RUN, headers=bearer(Role.READ))).status_code == 200


async def test_a_control_plane_of_its_own_host_is_ended_by_an_admin_and_another_by_nobody() -> None:
    ended: list[bool] = []
    async with open_service(access=ACCESS, on_shutdown=lambda: ended.append(True)) as service:
        response = await service.post("/v1/shutdown", headers=bearer(Role.ADMIN))
        assert (response.status_code, response.json(), ended) == (202, {"status": "ending"}, [True])
    async with open_service() as service:
        check_problem(await service.post("/v1/shutdown"), 409, "not-mine-to-end")


async def test_the_page_is_served_to_everybody_and_says_nothing_of_runs() -> None:
    async with open_service(access=ACCESS, client_address="10.0.0.7") as service:
        page = await service.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "run-1" not in page.text
        again = await service.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        script = await service.get("/ui/app.js")
        assert script.headers["content-type"].startswith("text/javascript")
        for path in ("/ui/none.js", "/ui/../files.py", "/ui/files.py", "/ui/__init__.py"):
            assert (await service.get(path)).status_code in (401, 404)


@pytest.mark.parametrize("call", ["register", "remember", "reports", "intent", "pause", "resume", "cancel"])
async def test_what_processes_of_runs_say_needs_a_token_that_may_operate(call: str) -> None:
    async with open_service(access=ACCESS) as service:
        app = create_app(
            service.plane, registry=CollectorRegistry(), access=ACCESS, transport=DirectTransport(service.plane)
        )
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
            path = f"/internal/v1/runs/run-1/{call}"
            check_problem(await client.post(path, json={}), 401, "unauthorized")
            check_problem(await client.post(path, json={}, headers=bearer(Role.READ)), 403, "forbidden")
            check_problem(await client.post(path, json={}, headers=bearer(Role.OPERATE)), 422, "validation")
            if call in ("pause", "resume", "cancel"):
                wrong = {"request": {"reason": 7}, "caller": "run-1"}
                body = check_problem(
                    await client.post(path, json=wrong, headers=bearer(Role.OPERATE)), 422, "validation"
                )
                assert "reason" in body["detail"]
        app.state.views.close()
