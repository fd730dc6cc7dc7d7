"""Pause, resume and cancel in every state, as the specification's table has them; and the operations that follow."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from api_service import RUN, Service, check_problem, open_service
from report_builders import make_description, make_worker

from services.control.machine import Happening
from services.reports import BufferReport, OperationReport, RunState, WorkerStatus

QUICK = {"checkpoint": False}
"""A pause that needs no checkpoint on the disk to be believed."""


async def bring(service: Service, state: str, run_id: str = "run-1") -> None:
    """Take a run to a state, by what its process reports and what users call."""
    steps: dict[str, Sequence[str]] = {
        "starting": [],
        "running": ["started"],
        "pausing": ["started", "pause"],
        "paused": ["started", "pause", "paused"],
        "resuming": ["started", "pause", "paused", "resume"],
        "cancelling": ["started", "cancel"],
        "completed": ["started", "completed"],
        "failed": ["started", "failed"],
        "cancelled": ["started", "cancel", "cancelled"],
    }
    path = f"/v1/runs/{run_id}"
    for step in steps[state]:
        if step in ("pause", "resume", "cancel"):
            body = {"pause": QUICK, "resume": {}, "cancel": QUICK}[step]
            assert (await service.post(f"{path}/{step}", json=body)).status_code == 202
        else:
            details = {"released": "none", "exactness": "none"} if step == "paused" else {}
            await service.report(step, RunState.RUNNING, details=details, run_id=run_id)
    assert (await service.get(path)).json()["status"]["state"] == state


CALLS = ("pause", "resume", "cancel")
TABLE = {
    # state: pause, resume, cancel
    "starting": (202, 200, 202),
    "running": (202, 200, 202),
    "pausing": (202, 202, 202),
    "paused": (200, 202, 202),
    "resuming": (202, 202, 202),
    "cancelling": (409, 409, 202),
    "completed": (409, 409, 409),
    "failed": (409, 409, 409),
    "cancelled": (409, 409, 200),
}


@pytest.mark.parametrize("state", TABLE)
async def test_each_call_answers_in_each_state_as_the_table_says(state: str) -> None:
    async with open_service(descriptions=tuple(make_description(run_id=call) for call in CALLS)) as service:
        for call, status in zip(CALLS, TABLE[state], strict=True):
            await bring(service, state, call)
            allowed = (await service.get(f"/v1/runs/{call}")).json()["status"]["allowed_actions"]
            response = await service.post(f"/v1/runs/{call}/{call}", json={} if call == "resume" else QUICK)
            assert response.status_code == status, (call, response.text)
            assert not (status == 409 and call in allowed)
            if status == 409:
                slug = "invalid-transition" if state == "cancelling" else "run-finished"
                body = check_problem(response, 409, slug)
                assert (body["current_state"], body["allowed_actions"]) == (state, [])


async def test_a_pause_answers_at_once_with_the_operation_to_follow() -> None:
    async with open_service() as service:
        await bring(service, "running")
        asked = {"timeout_seconds": 60, "reason": "maintenance", "mode": "abort", **QUICK}
        response = await service.post(f"{RUN}/pause", json=asked)
        body = response.json()
        operation = body["operation"]
        assert response.status_code == 202
        assert response.headers["location"] == f"{RUN}/operations/{operation['id']}"
        assert (body["run"]["status"]["state"], body["run"]["spec"]["desired_state"]) == ("pausing", "paused")
        pause = body["run"]["status"]["pause"]
        assert (pause["operation_id"], pause["mode"], pause["phase"]) == (operation["id"], "abort", "aborting")
        assert (pause["reason"], pause["requested_by"]) == ("maintenance", "local")
        assert (operation["kind"], operation["state"], operation["progress"]) == ("pause", "running", None)
        deadline = datetime.fromisoformat(operation["deadline_at"]).timestamp()
        assert deadline == service.clock.now + 60
        assert (operation["ended_at"], operation["error"], operation["result"]) == (None, None, {})
        assert operation["request"]["mode"] == "abort"
        assert (await service.get(f"{RUN}/operations/{operation['id']}")).json() == operation
        assert (await service.get(f"{RUN}/operations")).json()["items"] == [operation]


async def test_the_phases_of_a_pause_are_shown_as_the_run_tells_them() -> None:
    async with open_service() as service:
        await bring(service, "pausing")
        operation_id = (await service.get(RUN)).json()["status"]["pause"]["operation_id"]
        progress = OperationReport(operation_id=operation_id, phase="draining", progress=0.25, inflight_groups=3)
        await service.say(progress)
        pause = (await service.get(f"{RUN}/status")).json()["pause"]
        assert (pause["phase"], pause["progress"], pause["inflight_groups"]) == ("draining", 0.25, 3)
        assert (pause["released"], pause["exactness"]) == (None, None)
        await service.report("paused", RunState.PAUSED, details={"released": "none", "exactness": "none"})
        status = (await service.get(f"{RUN}/status")).json()
        assert (status["state"], status["pause"]["phase"]) == ("paused", "done")
        assert (status["pause"]["released"], status["pause"]["exactness"]) == ("none", "none")


async def test_calls_without_a_body_take_the_defaults() -> None:
    async with open_service() as service:
        await bring(service, "running")
        pause = (await service.post(f"{RUN}/pause")).json()["operation"]["request"]
        assert (pause["mode"], pause["release"], pause["on_timeout"]) == ("drain", "none", "fail")
        assert pause["timeout_seconds"] == 900.0
        assert (await service.post(f"{RUN}/resume")).status_code == 202
        cancel = (await service.post(f"{RUN}/cancel")).json()["operation"]["request"]
        assert (cancel["checkpoint"], cancel["grace_seconds"]) == (True, 300.0)


async def test_a_pause_wakes_the_process_of_the_run() -> None:
    async with open_service() as service:
        await bring(service, "running")
        run = service.plane.run("run-1")
        assert run is not None
        waiting = asyncio.create_task(service.plane.intent_after("run-1", run.intent.generation))
        await service.post(f"{RUN}/pause", json={"reason": "maintenance"})
        intent = await asyncio.wait_for(waiting, 1)
        assert (intent.kind, intent.reason) == ("pause", "maintenance")


async def test_a_pause_that_cannot_be_names_every_wrong_member() -> None:
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"mode": "freeze", "release": "kv_cache"}, ["#/release"]),
        ({"release": "all", "checkpoint": False, "timeout_seconds": 0}, ["#/checkpoint", "#/timeout_seconds"]),
        ({"mode": "abort", "on_timeout": "freeze"}, ["#/on_timeout"]),
        ({"ttl_seconds": -1}, ["#/ttl_seconds"]),
    ]
    async with open_service() as service:
        await bring(service, "running")
        for body, pointers in cases:
            problem = check_problem(await service.post(f"{RUN}/pause", json=body), 422, "validation")
            assert [error["pointer"] for error in problem["errors"]] == pointers
        assert (await service.get(RUN)).json()["status"]["state"] == "running"


async def test_another_pause_meanwhile_names_the_operation_in_the_way() -> None:
    async with open_service() as service:
        await bring(service, "pausing")
        same = (await service.post(f"{RUN}/pause", json={**QUICK, "reason": "other words"})).json()["operation"]
        body = check_problem(await service.post(f"{RUN}/pause", json={"timeout_seconds": 5}), 409, "pause-in-progress")
        assert body["operation_id"] == same["id"]
        assert body["current_state"] == "pausing"
        assert {"resume", "cancel"} <= set(body["allowed_actions"])


async def test_an_unknown_operation_is_a_problem() -> None:
    async with open_service() as service:
        check_problem(await service.get(f"{RUN}/operations/op-9"), 404, "operation-not-found")
        check_problem(await service.get(f"{RUN}/operations/nul%00"), 422, "validation")


async def test_operations_come_in_pages_oldest_first() -> None:
    async with open_service() as service:
        await bring(service, "running")
        for _ in range(2):
            await service.post(f"{RUN}/pause", json=QUICK)
            await service.post(f"{RUN}/resume")
        whole = (await service.get(f"{RUN}/operations")).json()
        assert [each["kind"] for each in whole["items"]] == ["pause", "resume", "pause", "resume"]
        first = (await service.get(f"{RUN}/operations", params={"page_size": 3})).json()
        rest = (await service.get(f"{RUN}/operations", params={"page_token": first["next_page_token"]})).json()
        assert first["items"] + rest["items"] == whole["items"]
        assert rest["next_page_token"] is None


async def test_a_checkpoint_is_asked_for_once_for_each_key() -> None:
    async with open_service() as service:
        await bring(service, "running")
        headers = {"idempotency-key": "c1"}
        first = await service.post(f"{RUN}/checkpoints", json={"tag": "before-lr"}, headers=headers)
        assert first.status_code == 202
        operation = first.json()
        assert (operation["kind"], operation["request"]["tag"]) == ("checkpoint", "before-lr")
        assert first.headers["location"] == f"{RUN}/operations/{operation['id']}"
        details = {"operation_id": operation["id"], "result": {"checkpoint": "step-000002"}}
        await service.report("task_done", details=details)
        again = await service.post(f"{RUN}/checkpoints", json={"tag": "before-lr"}, headers=headers)
        assert (again.json()["id"], again.json()["state"]) == (operation["id"], "succeeded")
        assert again.json()["result"] == {"checkpoint": "step-000002"}
        new = await service.post(f"{RUN}/checkpoints", json={"tag": "before-lr"})
        assert new.json()["id"] != operation["id"]
        other = await service.post(f"{RUN}/checkpoints", json={"tag": "other"}, headers=headers)
        check_problem(other, 422, "idempotency-key-reused")


@pytest.mark.parametrize("path", ["checkpoints", "evals"])
async def test_a_finished_run_is_given_no_tasks(path: str) -> None:
    async with open_service() as service:
        await bring(service, "completed")
        check_problem(await service.post(f"{RUN}/{path}"), 409, "run-finished")


async def test_workers_are_shown_restarted_and_drained() -> None:
    async with open_service() as service:
        workers = (make_worker("rollout-1"), make_worker("rollout-0"), make_worker("learner", role="learner"))
        await service.report("workers", workers=workers)
        await bring(service, "running")
        shown = (await service.get(f"{RUN}/workers")).json()["items"]
        assert [worker["id"] for worker in shown] == ["learner", "rollout-0", "rollout-1"]
        assert (shown[1]["state"], shown[1]["standing"], shown[1]["inflight"]) == ("ready", None, None)
        now = WorkerStatus(
            worker_id="rollout-0", role="rollout", standing="serving", inflight=5, restarts=2, policy_version=7
        )
        await service.say(BufferReport(queues={}, version=7, workers=(now,)))
        shown = (await service.get(f"{RUN}/workers")).json()["items"]
        assert (shown[1]["standing"], shown[1]["inflight"], shown[1]["policy_version"]) == ("serving", 5, 7)
        assert [worker["restarts"] for worker in shown] == [0, 2, 0]
        assert (await service.get(f"{RUN}/status")).json()["restarts_total"] == 2
        for call in ("restart", "drain"):
            response = await service.post(f"{RUN}/workers/rollout-0/{call}")
            assert (response.status_code, response.json()["kind"]) == (202, f"{call}_worker")
        body = check_problem(await service.post(f"{RUN}/workers/rollout-9/restart"), 404, "worker-not-found")
        assert "rollout-0" in body["detail"]


async def test_a_call_that_overtakes_the_report_it_was_meant_for_is_answered_by_what_is() -> None:
    async with open_service() as service:
        await bring(service, "pausing")
        await service.report(Happening.COMPLETED, RunState.COMPLETED)
        check_problem(await service.post(f"{RUN}/resume"), 409, "run-finished")
