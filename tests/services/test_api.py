"""Every endpoint, over ASGI without a socket: shapes, statuses and problem details."""

import asyncio
from datetime import datetime

import pytest
from api_service import RUN, Service, check_problem
from prometheus_client.parser import text_string_to_metric_families
from report_builders import make_evaluation, make_step, make_worker

from services.reports import Failure, RunState
from services.run_state import Happening


async def test_health_answers_without_a_run() -> None:
    response = await Service().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_only_while_deadlines_are_watched() -> None:
    service = Service()
    early = await service.get("/readyz")
    assert early.status_code == 503
    assert early.headers["retry-after"] == "1"
    assert early.json() == {"status": "not_ready", "checks": {"deadlines": "deadlines are not watched yet"}}
    service.control.tick(service.clock.now)
    assert (await service.get("/readyz")).json() == {"status": "ready", "checks": {"deadlines": "ok"}}


async def test_readiness_asks_the_checks_it_is_given() -> None:
    service = Service(checks={"ray": lambda: "no head node"})
    service.control.tick(service.clock.now)
    response = await service.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"deadlines": "ok", "ray": "no head node"}


async def test_version_names_what_is_installed() -> None:
    body = (await Service().get("/version")).json()
    assert set(body) == {"version", "api", "python", "ray", "vllm", "deepspeed", "torch"}
    assert body["api"] == "v1"


async def test_metrics_is_prometheus_text_and_openmetrics_on_request() -> None:
    service = Service()
    plain = await service.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(plain.text)}
    assert {"less_run_state", "less_groups", "less_step_seconds"} <= names
    open_metrics = await service.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


async def test_a_pending_run_shows_null_for_what_does_not_exist() -> None:
    service = Service()
    run = (await service.get(RUN)).json()
    assert set(run) == {
        *("id", "name", "created_at", "started_at", "finished_at", "run_dir"),
        *("spec", "status", "links"),
    }
    assert run["spec"] == {
        "generation": 1,
        "desired_state": "running",
        "model": "models/tiny",
        "algorithm": "grpo",
        "shaping": "less",
        "seed": 7,
        "config_hash": "sha256:00",
    }
    status = run["status"]
    assert (status["state"], status["step"], status["total_steps"]) == ("pending", 0, 10)
    for member in ("last_step_at", "eta_seconds", "evaluation", "pause", "failure"):
        assert status[member] is None, member
    assert (status["metrics"], status["workers"]) == ({}, {})
    assert status["allowed_actions"] == ["pause", "cancel"]
    assert (run["started_at"], run["finished_at"]) == (None, None)
    assert datetime.fromisoformat(run["created_at"]).timestamp() == service.clock.now
    assert run["created_at"].endswith("Z")
    assert run["links"] == {"self": RUN, "events": f"{RUN}/events", "operations": f"{RUN}/operations"}


async def test_a_running_run_shows_its_last_step_and_evaluation() -> None:
    service = Service()
    ready, slow = make_worker("rollout-0"), make_worker("rollout-1", state="starting")
    await service.report("workers", RunState.STARTING, workers=(ready, slow))
    await service.report(Happening.STARTED)
    await service.control.report(make_step(1, {"reward_total_value": 0.5}))
    await service.control.report(make_step(2, {"reward_total_value": 0.75, "learner_grad_norm": float("nan")}))
    await service.control.report(make_evaluation(2, num_decided=6))
    status = (await service.get(RUN)).json()["status"]
    assert (status["state"], status["message"]) == ("running", "step 2 of 10")
    assert (status["step"], status["policy_version"], status["tokens_generated"]) == (2, 2, 200)
    assert status["metrics"] == {"reward_total_value": 0.75}  # JSON has no NaN
    assert status["eta_seconds"] == 16.0  # 2 s a step, 8 steps to go
    assert status["evaluation"]["accuracy_ratio"] == 0.5
    assert (status["evaluation"]["problems"], status["evaluation"]["decided"]) == (8, 6)
    assert status["workers"] == {"rollout": {"ready": 1, "total": 2}}


async def test_a_failed_run_says_why() -> None:
    service = Service()
    failure = Failure(role="learner", cause="loss is not finite", group_id="g7")
    await service.report(Happening.FAILED, RunState.FAILED, "learner (group g7): loss is not finite", failure=failure)
    run = (await service.get(RUN)).json()
    assert run["status"]["state"] == "failed"
    assert run["status"]["failure"] == {"role": "learner", "cause": "loss is not finite", "group_id": "g7"}
    assert run["status"]["message"] == "learner (group g7): loss is not finite"
    assert run["finished_at"] is not None
    assert run["status"]["allowed_actions"] == []


async def test_runs_are_listed_and_filtered_by_state() -> None:
    service = Service()
    page = (await service.get("/v1/runs")).json()
    assert [run["id"] for run in page["items"]] == ["run-1"]
    assert page["next_page_token"] is None
    assert (await service.get("/v1/runs", params={"state": "running"})).json()["items"] == []
    body = check_problem(await service.get("/v1/runs", params={"state": "sleeping"}), 422, "validation")
    assert body["errors"][0]["pointer"] == "state"


@pytest.mark.parametrize("path", ["", "/operations", "/operations/op-1", "/events"])
async def test_an_unknown_run_is_a_problem(path: str) -> None:
    body = check_problem(await Service().get(f"/v1/runs/other{path}"), 404, "run-not-found")
    assert "run-1" in body["detail"]


async def test_events_come_in_pages() -> None:
    service = Service()
    for kind in ("starting", "started", "note"):
        await service.report(kind, RunState.RUNNING, message=kind)
    first = (await service.get(f"{RUN}/events", params={"page_size": 2})).json()
    assert [event["id"] for event in first["items"]] == [1, 2]
    assert set(first["items"][0]) == {"id", "at", "type", "message", "state", "failure"}
    rest = (await service.get(f"{RUN}/events", params={"after": first["next_page_token"]})).json()
    assert [event["id"] for event in rest["items"]] == [3, 4, 5]
    assert rest["next_page_token"] is None
    chosen = (await service.get(f"{RUN}/events", params={"type": "note"})).json()
    assert [event["message"] for event in chosen["items"]] == ["note"]
    check_problem(await service.get(f"{RUN}/events", params={"page_size": 501}), 422, "validation")


async def test_a_pause_answers_at_once_with_the_operation_to_follow() -> None:
    service = Service()
    await service.report(Happening.STARTED)
    response = await service.post(f"{RUN}/pause", json={"timeout_seconds": 60, "reason": "maintenance"})
    body = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{RUN}/operations/op-1"
    assert (body["run"]["status"]["state"], body["run"]["spec"]["desired_state"]) == ("pausing", "paused")
    pause = body["run"]["status"]["pause"]
    assert set(pause) == {"operation_id", "mode", "reason", "requested_at", "deadline_at", "phase"}
    assert (pause["operation_id"], pause["mode"], pause["phase"]) == ("op-1", "drain", "draining")
    operation = body["operation"]
    assert (operation["id"], operation["kind"], operation["state"]) == ("op-1", "pause", "running")
    deadline = datetime.fromisoformat(operation["deadline_at"]).timestamp()
    assert deadline == service.clock.now + 60
    assert (operation["ended_at"], operation["error"]) == (None, None)
    assert (await service.get(f"{RUN}/operations/op-1")).json() == operation
    assert (await service.get(f"{RUN}/operations")).json()["items"] == [operation]


async def test_pause_resume_and_cancel_without_a_body_take_the_defaults() -> None:
    service = Service()
    await service.report(Happening.STARTED)
    assert (await service.post(f"{RUN}/pause")).status_code == 202
    await service.report(Happening.DRAINED, RunState.PAUSED)
    assert (await service.post(f"{RUN}/pause")).status_code == 200
    assert (await service.post(f"{RUN}/resume")).json()["run"]["status"]["state"] == "resuming"
    await service.report(Happening.RESUMED)
    already = await service.post(f"{RUN}/resume")
    assert (already.status_code, already.json()["operation"]) == (200, None)
    assert (await service.post(f"{RUN}/cancel")).json()["run"]["status"]["state"] == "cancelling"
    await service.report(Happening.CANCELLED, RunState.CANCELLED)
    assert (await service.post(f"{RUN}/cancel")).status_code == 200


async def test_a_pause_wakes_the_orchestrator() -> None:
    service = Service()
    await service.report(Happening.STARTED)
    waiting = asyncio.create_task(service.control.intent_after(1))
    await service.post(f"{RUN}/pause", json={"reason": "maintenance"})
    intent = await asyncio.wait_for(waiting, 1)
    assert (intent.kind, intent.reason) == ("pause", "maintenance")


async def test_a_value_that_is_not_built_yet_is_refused_with_what_exists() -> None:
    service = Service()
    await service.report(Happening.STARTED)
    response = await service.post(f"{RUN}/pause", json={"mode": "freeze", "release": "all", "checkpoint": True})
    body = check_problem(response, 422, "validation")
    assert [error["pointer"] for error in body["errors"]] == ["#/mode", "#/release", "#/checkpoint"]
    assert body["errors"][0]["message"] == '"freeze" is not built yet; the only value that exists is "drain"'
    assert (await service.get(RUN)).json()["status"]["state"] == "running"


async def test_another_pause_meanwhile_names_the_operation_in_the_way() -> None:
    service = Service()
    await service.report(Happening.STARTED)
    await service.post(f"{RUN}/pause")
    body = check_problem(await service.post(f"{RUN}/pause", json={"timeout_seconds": 5}), 409, "pause-in-progress")
    assert body["operation_id"] == "op-1"
    assert (body["current_state"], body["allowed_actions"]) == ("pausing", ["resume", "cancel"])


@pytest.mark.parametrize("call", ["pause", "resume", "cancel"])
async def test_a_finished_run_takes_no_calls(call: str) -> None:
    service = Service()
    await service.report(Happening.COMPLETED, RunState.COMPLETED)
    body = check_problem(await service.post(f"{RUN}/{call}"), 409, "run-finished")
    assert (body["current_state"], body["allowed_actions"]) == ("completed", [])


@pytest.mark.parametrize("call", ["pause", "resume"])
async def test_a_run_being_cancelled_takes_neither_pause_nor_resume(call: str) -> None:
    service = Service()
    await service.report(Happening.STARTED)
    await service.post(f"{RUN}/cancel")
    body = check_problem(await service.post(f"{RUN}/{call}"), 409, "invalid-transition")
    assert body["current_state"] == "cancelling"


async def test_an_unknown_operation_is_a_problem() -> None:
    check_problem(await Service().get(f"{RUN}/operations/op-9"), 404, "operation-not-found")
