"""The audit log: one line for each call that changes something or tries to, with no secret, once it is answered."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from api_service import FREE, RUN, TOKENS, WITH_TOKENS, IdleLauncher, Service, bearer, check_problem, open_service
from recipe_builders import make_raw, make_recipe
from report_builders import make_description

from services.api.access import Access
from services.api.audit import MAX_BODY_BYTES
from services.api.auth import Role
from services.control.machine import Happening
from services.control.records import StoreError
from services.control.redaction import Redactor
from services.reports import RunState


async def lines(service: Service, **params: Any) -> list[dict[str, Any]]:
    headers = bearer(Role.ADMIN)
    found: list[dict[str, Any]] = (await service.get("/v1/audit", params=params, headers=headers)).json()["items"]
    return found


async def test_a_line_says_who_asked_for_what_and_what_came_of_it() -> None:
    async with open_service(access=Access(tokens=WITH_TOKENS, limits=FREE), client_address="10.0.0.7") as service:
        await service.report(Happening.STARTED)
        body = json.dumps({"mode": "abort", "reason": "maintenance"}).encode()
        headers = {**bearer(Role.OPERATE), "content-type": "application/json"}
        response = await service.post(f"{RUN}/pause", content=body, headers=headers)
        assert (await lines(service)) == [
            {
                "id": 1,
                "at": "2023-11-14T22:13:20Z",
                "caller": "operateer",
                "role": "operate",
                "address": "10.0.0.7",
                "request_id": response.headers["x-request-id"],
                "method": "POST",
                "path": f"{RUN}/pause",
                "run_id": "run-1",
                "body_digest": "sha256:" + hashlib.sha256(body).hexdigest(),
                "body": {"mode": "abort", "reason": "maintenance"},
                "status": 202,
                "generation_before": 1,
                "generation_after": 1,
            }
        ]
        assert TOKENS[Role.OPERATE] not in (await service.get("/v1/audit", headers=bearer(Role.ADMIN))).text


async def test_refused_calls_are_there_and_reads_are_not() -> None:
    async with open_service(access=Access(tokens=WITH_TOKENS, limits=FREE)) as service:
        await service.get(RUN, headers=bearer(Role.READ))
        await service.post(f"{RUN}/pause", headers=bearer(Role.READ))
        await service.post(f"{RUN}/cancel", headers={"authorization": "Bearer nobody-knows-this-one"})
        await service.post("/v1/runs/none/pause", headers=bearer(Role.ADMIN))
        found = [(line["caller"], line["role"], line["status"]) for line in await lines(service)]
        assert found == [("adminer", "admin", 404), ("", "", 401), ("reader", "read", 403)]


async def test_a_change_of_config_shows_the_generation_before_and_after() -> None:
    description = make_description(recipe=make_recipe().as_dict())
    async with open_service(descriptions=(description,)) as service:
        patch = {"run": {"steps": 9}}
        await service.patch(f"{RUN}/config", json=patch, headers={"if-match": '"1"'})
        line = (await lines(service))[0]
        assert (line["generation_before"], line["generation_after"], line["body"]) == (1, 2, patch)


async def test_a_run_that_is_created_is_named_in_the_line(tmp_path: Path) -> None:
    async with open_service(descriptions=(), launcher=IdleLauncher(), runs_dir=tmp_path) as service:
        run_id = (await service.post("/v1/runs", json={"config": make_raw()})).json()["id"]
        line = (await lines(service))[0]
        assert (line["run_id"], line["generation_before"], line["generation_after"]) == (run_id, None, 1)


async def test_a_body_is_kept_as_far_as_it_can_be_and_without_secrets() -> None:
    secret = {"api_key": "k-123456", "deep": {"password": "p"}}
    cases: list[tuple[bytes, dict[str, Any]]] = [
        (b"", {}),
        (b"{nope", {"unreadable_bytes": 5}),
        (b'{"a": NaN}', {"unreadable_bytes": 10}),
        (b"[" * 50_000, {"left_out_bytes": 50_000}),
        (b"[" * 9_000, {"unreadable_bytes": 9_000}),
        (b"[1, 2]", {"body": [1, 2]}),
        (b'{"reason": "' + b"x" * MAX_BODY_BYTES + b'"}', {"left_out_bytes": MAX_BODY_BYTES + 14}),
        (json.dumps(secret).encode(), {"api_key": "[redacted]", "deep": {"password": "[redacted]"}}),
    ]
    async with open_service() as service:
        for body, shown in cases:
            await service.post(f"{RUN}/pause", content=body, headers={"content-type": "application/json"})
            assert (await lines(service))[0]["body"] == shown


async def test_lines_come_newest_first_in_pages() -> None:
    async with open_service() as service:
        for _ in range(5):
            await service.post(f"{RUN}/resume")
        first = (await service.get("/v1/audit", params={"page_size": 3})).json()
        token = first["next_page_token"]
        rest = (await service.get("/v1/audit", params={"page_size": 3, "page_token": token})).json()
        assert [line["id"] for line in first["items"] + rest["items"]] == [5, 4, 3, 2, 1]
        assert rest["next_page_token"] is None
        check_problem(await service.get("/v1/audit", params={"page_token": "x"}), 422, "validation")


async def test_the_file_beside_the_store_has_the_same_lines_and_is_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    access, redactor = Access(limits=FREE, audit_file=file), Redactor(["canary-4711"])
    async with open_service(access=access, redactor=redactor) as service:
        await service.post(f"{RUN}/resume", json={"reason": "go \u2028 on, canary-4711"})
        await service.post("/v1/runs/canary-4711/resume", json={"api_key": "k-123456"})
        stored = await lines(service)
    text = file.read_text()
    assert "canary-4711" not in text and "k-123456" not in text
    assert text.count("[redacted]") == 4  # reason, path, run id and key
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["request_id"] for line in written] == [line["request_id"] for line in reversed(stored)]
    assert written[0]["caller"] == {"name": "local", "role": "admin", "address": "127.0.0.1"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_call_is_answered_truly_even_where_its_line_cannot_be_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access(limits=FREE, audit_file=tmp_path / "no" / "such" / "folder")
    async with open_service(access=access) as service:
        await service.report(Happening.STARTED)

        async def fail(_: object) -> None:
            raise StoreError("disk full")

        service.plane.record_audit = fail  # type: ignore[method-assign, assignment]
        assert (await service.post(f"{RUN}/pause")).status_code == 202
        run = service.plane.run("run-1")
        assert run is not None
        assert run.life.state is RunState.PAUSING
    assert "disk full" in caplog.text
    assert "audit file" in caplog.text


async def test_a_call_that_crashes_leaves_its_line() -> None:
    async with open_service() as service:

        async def crash(*_: object) -> None:
            raise RuntimeError("bug")

        run = service.plane.run("run-1")
        assert run is not None
        run.resume = crash  # type: ignore[method-assign, assignment]
        check_problem(await service.post(f"{RUN}/resume"), 500, "internal")
        assert [line["status"] for line in await lines(service)] == [500]


async def test_a_token_that_opened_the_gate_is_masked_where_its_owner_writes_it() -> None:
    async with open_service(access=Access(tokens=WITH_TOKENS, limits=FREE)) as service:
        await service.report(Happening.STARTED)
        token, unknown = TOKENS[Role.OPERATE], "some-other-word-0123456789"
        reason = {"reason": f"with {token} and {unknown}"}
        paused = await service.post(f"{RUN}/pause", json=reason, headers=bearer(Role.OPERATE))
        await service.post(f"{RUN}/pause", headers={"Authorization": f"Bearer {unknown}"})
        refused = await service.patch(RUN, json={token: 1}, headers=bearer(Role.OPERATE))
        assert refused.json()["errors"] == [{"pointer": "#/[redacted]", "message": "unknown member"}]
        # A word that opened nothing is nobody's secret: whoever guesses must not decide what is masked.
        assert paused.json()["operation"]["reason"] == f"with [redacted] and {unknown}"
        assert [token in each.text for each in (paused, refused)] == [False, False]
        assert token not in json.dumps(await lines(service))
