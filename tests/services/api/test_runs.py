"""Runs over HTTP: what is shown of one, lists, labels, beginnings and ends."""

from datetime import datetime
from pathlib import Path

import yaml
from api_service import RUN, IdleLauncher, Service, check_problem, open_service
from prometheus_client.parser import text_string_to_metric_families
from recipe_builders import make_raw
from report_builders import make_description, make_evaluation, make_step, make_worker

from services.control.machine import Happening
from services.reports import BufferReport, Failure, RunState


async def test_health_answers_without_a_run() -> None:
    async with open_service(descriptions=()) as service:
        response = await service.get("/healthz")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_only_while_deadlines_are_watched() -> None:
    async with open_service() as service:
        early = await service.get("/readyz")
        assert early.status_code == 503
        assert early.headers["retry-after"] == "1"
        assert early.json()["checks"] == {"store": "ok", "reconciler": "deadlines are not watched yet"}
        service.plane.ticked_at = service.clock.now
        assert (await service.get("/readyz")).json() == {
            "status": "ready",
            "checks": {"store": "ok", "reconciler": "ok"},
        }


async def test_readiness_asks_the_checks_it_is_given() -> None:
    async with open_service(checks={"ray": lambda: "no head node"}) as service:
        service.plane.ticked_at = service.clock.now
        response = await service.get("/readyz")
        assert response.status_code == 503
        assert response.json()["checks"]["ray"] == "no head node"


async def test_version_names_what_is_installed() -> None:
    async with open_service(descriptions=()) as service:
        body = (await service.get("/version")).json()
    assert set(body) == {"version", "git_commit", "api", "python", "ray", "vllm", "deepspeed", "torch"}
    assert body["api"] == "v1"


async def test_capabilities_name_what_can_be_asked() -> None:
    async with open_service(descriptions=()) as service:
        body = (await service.get("/v1/capabilities")).json()
    assert body["pause_modes"] == ["drain", "freeze", "abort"]
    assert body["release_levels"] == ["none", "kv_cache", "rollout_weights", "all"]
    assert body["can_create_runs"] is False
    assert {"less", "uniform"} <= set(body["components"]["shaping.shapers"])
    assert "grpo" in body["components"]["shaping.estimators"]
    assert "ppo_clip" in body["components"]["learner.losses"]
    assert "aime24" in body["benchmarks"]
    rate = next(key for key in body["live_keys"] if key["key"] == "learner.optimizer.learning_rate")
    assert (rate["applies"], rate["kind"], rate["minimum"], rate["maximum"]) == ("next_step", "number", 0, 1)
    assert rate["meaning"]


async def test_metrics_is_prometheus_text_and_openmetrics_on_request() -> None:
    async with open_service() as service:
        plain = await service.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=")
        names = {family.name for family in text_string_to_metric_families(plain.text)}
        assert {"less_run_state", "less_groups", "less_step_seconds"} <= names
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        open_metrics = await service.get("/metrics", headers=accept)
        assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
        assert open_metrics.text.endswith("# EOF\n")


async def test_a_new_run_shows_null_for_what_does_not_exist() -> None:
    async with open_service() as service:
        run = (await service.get(RUN)).json()
        assert run["spec"] == {
            "generation": run["spec"]["generation"],
            "config_generation": 1,
            "desired_state": "running",
            "model": "models/tiny",
            "algorithm": "grpo",
            "shaping": "less",
            "seed": 7,
            "config_hash": "sha256:00",
        }
        status = run["status"]
        assert (status["state"], status["step"], status["total_steps"]) == ("starting", 0, 10)
        for member in ("last_step_at", "eta_seconds", "evaluation", "checkpoint", "pause", "failure"):
            assert status[member] is None, member
        assert status["rollout_policy_version"] is None
        assert (status["metrics"], status["workers"]) == ({}, {})
        assert (status["attempt"], status["restarts_total"]) == (1, 0)
        assert {"pause", "cancel"} <= set(status["allowed_actions"])
        assert (run["started_at"], run["finished_at"]) == (None, None)
        assert datetime.fromisoformat(run["created_at"]).timestamp() == service.clock.now
        assert run["created_at"].endswith("Z")
        assert run["links"]["self"] == RUN
        assert run["links"]["ui"] == "/#/runs/run-1"


async def test_a_running_run_shows_its_last_step_evaluation_and_checkpoint() -> None:
    async with open_service() as service:
        ready, slow = make_worker("rollout-0"), make_worker("rollout-1", state="starting")
        await service.report("workers", RunState.STARTING, workers=(ready, slow))
        await service.report(Happening.STARTED)
        await service.say(
            make_step(1, {"reward_total_value": 0.5}),
            make_step(2, {"reward_total_value": 0.75, "learner_grad_norm": float("nan")}),
            make_evaluation(2, num_decided=6),
            BufferReport(queues={"in_flight": (3, 8)}, version=1),
        )
        await service.report("checkpoint_saved", details={"checkpoint": "step-000002", "step": 2})
        status = (await service.get(RUN)).json()["status"]
        assert status["state"] == "running"
        # The buffer told version 1 before; a step is live when it is told.
        assert (status["step"], status["policy_version"], status["rollout_policy_version"]) == (2, 2, 2)
        assert status["tokens_generated"] == 200
        assert status["metrics"] == {"reward_total_value": 0.75}  # JSON has no NaN
        assert status["eta_seconds"] == 16.0  # 2 s a step, 8 steps to go
        assert status["evaluation"]["accuracy_ratio"] == 0.5
        assert (status["evaluation"]["problems"], status["evaluation"]["decided"]) == (8, 6)
        assert status["workers"] == {"rollout": {"ready": 1, "total": 2}}
        assert (status["checkpoint"]["latest"], status["checkpoint"]["step"]) == ("step-000002", 2)


async def test_the_small_status_has_what_a_screen_polls() -> None:
    async with open_service() as service:
        early = (await service.get(f"{RUN}/status")).json()
        assert (early["step_seconds"], early["tokens_per_second"], early["last_step_age_seconds"]) == (None, None, None)
        await service.report(Happening.STARTED)
        await service.say(make_step(1), BufferReport(queues={"buffered": (2, 16)}, version=1))
        service.clock.now += 5.0
        status = (await service.get(f"{RUN}/status")).json()
        assert status["phase_seconds"] == {"wait_batch": 0.5, "train": 1.5}
        assert status["step_seconds"] == 2.0
        assert status["tokens_per_second"] == 50.0  # 100 tokens in 2 s
        assert status["last_step_age_seconds"] == 5.0
        assert status["groups"] == {"trained": 4}
        assert status["queues"] == {"buffered": {"depth": 2, "capacity": 16}}
        assert (await service.get(f"{RUN}/queues")).json()["items"] == [
            {"name": "buffered", "depth": 2, "capacity": 16}
        ]


async def test_a_failed_run_says_why() -> None:
    async with open_service() as service:
        failure = Failure(role="learner", cause="loss is not finite", group_id="g7")
        message = "learner (group g7): loss is not finite"
        await service.report(Happening.FAILED, RunState.FAILED, message, failure=failure)
        run = (await service.get(RUN)).json()
        assert run["status"]["state"] == "failed"
        assert run["status"]["failure"] == {"role": "learner", "cause": "loss is not finite", "group_id": "g7"}
        assert run["status"]["message"] == message
        assert run["finished_at"] is not None
        assert run["status"]["allowed_actions"] == []


async def make_many(service: Service) -> None:
    for number in range(1, 6):
        service.clock.now += 10.0
        await service.register(make_description(run_id=f"run-{number}", name=f"tiny-{number}"))
        labels = {"team": "a" if number % 2 else "b", "number": str(number)}
        await service.patch(f"/v1/runs/run-{number}", json={"labels": labels})
    await service.report(Happening.STARTED, run_id="run-2")


async def names(service: Service, **params: object) -> list[str]:
    response = await service.get("/v1/runs", params=params)
    assert response.status_code == 200, response.text
    return [run["id"] for run in response.json()["items"]]


async def test_runs_are_listed_newest_first_and_filtered() -> None:
    async with open_service(descriptions=()) as service:
        await make_many(service)
        assert await names(service) == ["run-5", "run-4", "run-3", "run-2", "run-1"]
        assert await names(service, state="running") == ["run-2"]
        assert await names(service, label="team:a") == ["run-5", "run-3", "run-1"]
        assert await names(service, label=["team:a", "number:3"]) == ["run-3"]
        after = datetime.fromtimestamp(service.clock.now - 15.0).astimezone().isoformat()
        assert await names(service, created_after=after) == ["run-5", "run-4"]


async def test_a_filter_that_cannot_be_is_refused() -> None:
    cases = {
        "state": {"state": "sleeping"},
        "label": {"label": "team"},
        "created_after": {"created_after": "2026-01-01T00:00:00"},
        "page_size": {"page_size": "501"},
        "page_token": {"page_token": "made-up"},
    }
    async with open_service() as service:
        for pointer, params in cases.items():
            body = check_problem(await service.get("/v1/runs", params=params), 422, "validation")
            assert body["errors"][0]["pointer"] == pointer


async def test_pages_hold_every_run_once_in_order() -> None:
    async with open_service(descriptions=()) as service:
        await make_many(service)
        seen: list[str] = []
        token: str | None = ""
        while token is not None:
            page = (await service.get("/v1/runs", params={"page_size": 2, "page_token": token})).json()
            assert len(page["items"]) in (1, 2)
            seen += [run["id"] for run in page["items"]]
            token = page["next_page_token"]
        assert seen == ["run-5", "run-4", "run-3", "run-2", "run-1"]


async def test_an_unknown_run_is_a_problem() -> None:
    paths = [
        *("", "/status", "/operations", "/operations/op-1", "/events", "/events/stream", "/config", "/config/history"),
        *("/series?names=a", "/series/names", "/groups", "/groups/g", "/logs", "/logs/stream", "/checkpoints"),
        *("/evals", "/workers", "/queues", "/outcomes", "/distributions?kind=reward"),
    ]
    async with open_service() as service:
        for path in paths:
            check_problem(await service.get(f"/v1/runs/other{path}"), 404, "run-not-found")


async def test_what_people_write_on_a_run_can_change_and_nothing_else_does() -> None:
    async with open_service() as service:
        first = await service.get(RUN)
        answer = await service.patch(RUN, json={"name": "better", "labels": {"team": "a"}, "notes": "see paper"})
        assert answer.status_code == 200
        assert (answer.json()["name"], answer.json()["labels"]) == ("better", {"team": "a"})
        assert (await service.patch(RUN, json={"notes": ""})).json()["labels"] == {"team": "a"}
        assert answer.headers["etag"] != first.headers["etag"]
        stale = await service.patch(RUN, json={"notes": "x"}, headers={"if-match": first.headers["etag"]})
        check_problem(stale, 412, "precondition-failed")
        etag = (await service.get(RUN)).headers["etag"]
        assert (await service.patch(RUN, json={"notes": "y"}, headers={"if-match": etag})).status_code == 200
        check_problem(await service.patch(RUN, json={"state": "paused"}), 422, "validation")
        check_problem(await service.patch(RUN, json={"labels": {"a b": "c"}}), 422, "validation")


async def test_only_a_run_that_has_ended_is_forgotten() -> None:
    async with open_service() as service:
        body = check_problem(await service.delete(RUN), 409, "invalid-transition")
        assert body["current_state"] == "starting"
        await service.report(Happening.COMPLETED, RunState.COMPLETED)
        assert (await service.delete(RUN)).status_code == 204
        check_problem(await service.get(RUN), 404, "run-not-found")


async def test_a_dry_run_says_what_would_be_and_starts_nothing(tmp_path: Path) -> None:
    async with open_service(descriptions=(), launcher=IdleLauncher(), runs_dir=tmp_path) as service:
        body = {"config": make_raw(), "set": ["run.steps=7"], "name": "other", "dry_run": True}
        response = await service.post("/v1/runs", json=body)
        assert response.status_code == 200
        assert response.json()["config"]["run"]["steps"] == 7
        assert response.json()["config"]["name"] == "other"
        assert response.json()["plan"]["steps"] == 7
        assert (await service.get("/v1/runs")).json()["items"] == []
        assert list(tmp_path.iterdir()) == []


async def test_a_run_is_created_once_for_each_key(tmp_path: Path) -> None:
    async with open_service(descriptions=(), launcher=IdleLauncher(), runs_dir=tmp_path) as service:
        body = {"config_text": yaml.safe_dump(make_raw()), "labels": {"team": "a"}, "notes": "first"}
        headers = {"idempotency-key": "k1"}
        first = await service.post("/v1/runs", json=body, headers=headers)
        assert first.status_code == 201, first.text
        run = first.json()
        assert first.headers["location"] == f"/v1/runs/{run['id']}"
        assert (run["labels"], run["notes"], run["status"]["state"]) == ({"team": "a"}, "first", "pending")
        again = await service.post("/v1/runs", json=body, headers=headers)
        assert (again.status_code, again.json()["id"]) == (201, run["id"])
        other = await service.post("/v1/runs", json={**body, "notes": "second"}, headers=headers)
        check_problem(other, 422, "idempotency-key-reused")
        assert len(list(tmp_path.iterdir())) == 1
        active = check_problem(await service.post("/v1/runs", json=body), 409, "run-active")
        assert (active["run_id"], active["current_state"]) == (run["id"], "pending")
        original = await service.get(f"/v1/runs/{run['id']}/config", params={"format": "original"})
        assert original.text == body["config_text"]


async def test_a_run_that_cannot_be_is_refused_by_member(tmp_path: Path) -> None:
    recipe = make_raw()
    cases: list[tuple[dict[str, object], str]] = [
        ({}, "#"),
        ({"config": recipe, "config_text": "name: x"}, "#"),
        ({"config": {**recipe, "nonsense": 1}}, "#/config"),
        ({"config": {**recipe, "name": "nul \0"}}, "#/config"),
        ({"config_text": "- a list"}, "#/config_text"),
        ({"config": recipe, "set": ["run.steps"]}, "#/set/0"),
        ({"config": recipe, "set": ["run.steps=["]}, "#/set/0"),
        ({"config": recipe, "name": "../up"}, "#/name"),
        ({"config": recipe, "labels": {f"l{number}": "" for number in range(33)}}, "#/labels"),
    ]
    async with open_service(descriptions=(), launcher=IdleLauncher(), runs_dir=tmp_path) as service:
        for body, pointer in cases:
            problem = check_problem(await service.post("/v1/runs", json=body), 422, "validation")
            assert problem["errors"][0]["pointer"] == pointer, body
        assert list(tmp_path.iterdir()) == []


async def test_a_control_plane_that_starts_no_runs_says_so() -> None:
    async with open_service(descriptions=()) as service:
        body = check_problem(await service.post("/v1/runs", json={"config": make_raw()}), 409, "cannot-start-runs")
        assert "lessrl" in body["detail"]
