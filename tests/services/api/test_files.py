"""What is read from a run's directory over HTTP: curves, groups, logs, checkpoints, evaluations; hostile text inert."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from api_service import FREE, RUN, WITH_TOKENS, Service, bearer, check_problem, open_service, open_stream
from checkpoint_builders import make_store, save_checkpoint
from report_builders import make_description
from run_view_builders import append_groups, make_group_line, make_run_dir, write_log

from services.api.access import Access
from services.api.auth import Role
from services.control.machine import Happening
from services.control.redaction import Redactor
from services.run_dir import GROUPS_FILE

HOSTILE = "<script>x</script>\x1b[31m\u202e\u2028\0 end"


@asynccontextmanager
async def open_files(tmp_path: Path, **more: Any) -> AsyncIterator[Service]:
    run_dir = make_run_dir(tmp_path / "run")
    description = replace(make_description(), run_dir=str(run_dir))
    async with open_service(descriptions=(description,), **more) as service:
        await service.report(Happening.STARTED)
        yield service


async def test_curves_have_the_names_that_there_are_and_the_steps_asked_for(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        names = (await service.get(f"{RUN}/series/names")).json()["names"]
        assert {"reward_total_value", "evaluation_accuracy", "phase_train_s", "groups_trained_count"} <= set(names)
        params = {"names": "reward_total_value,evaluation_accuracy", "min_step": 2}
        body = (await service.get(f"{RUN}/series", params=params)).json()
        # The builder's steps have a reward of step / 10 and accuracies at 0 and 3.
        assert body == {
            "step": [2, 3],
            "series": {"reward_total_value": [0.2, 0.3], "evaluation_accuracy": [None, 0.75]},
        }


async def test_a_curve_that_cannot_be_is_refused(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [{"names": "nonsense"}, {}, {"names": "step_s", "max_points": 1}]
    async with open_files(tmp_path) as service:
        for params in [*cases, {"names": "step_s", "min_step": -1}]:
            check_problem(await service.get(f"{RUN}/series", params=params), 422, "validation")


async def test_distributions_are_of_the_groups_that_were_written_down(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        body = (await service.get(f"{RUN}/distributions", params={"kind": "response_length", "step": 2})).json()
        # 2 groups of a step are written down, each of 4 responses of 4 tokens.
        assert (body["step"], body["num_groups"], body["n"]) == (2, 2, 8)
        assert sum(body["counts"]) == 8
        assert len(body["edges"]) == len(body["counts"]) + 1
        nothing = await service.get(f"{RUN}/distributions", params={"kind": "reward", "step": 9})
        check_problem(nothing, 404, "distribution-not-found")
        check_problem(await service.get(f"{RUN}/distributions", params={"kind": "mood"}), 422, "validation")


async def test_groups_come_newest_first_in_pages_and_one_by_one(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        seen, token = [], ""
        while token is not None:
            page = (await service.get(f"{RUN}/groups", params={"page_size": 5, "page_token": token})).json()
            seen += page["items"]
            token = page["next_page_token"]
        assert [group["group_id"] for group in seen] == [f"g{ordinal:08d}" for ordinal in reversed(range(12))]
        stored = [group for group in seen if group["is_stored"]]
        assert len(stored) == 6
        assert (stored[-1]["verdicts"], stored[-1]["num_correct"], stored[-1]["num_tokens"]) == ("all_incorrect", 0, 16)
        assert seen[0]["num_correct"] is None
        mixed = (await service.get(f"{RUN}/groups", params={"outcome": "mixed", "step": 1})).json()["items"]
        assert [group["group_id"] for group in mixed] == ["g00000001"]
        group = (await service.get(f"{RUN}/groups/g00000001")).json()
        assert (group["group_id"], group["num_tokens"]) == ("g00000001", 16)
        assert len(group["rollouts"]) == len(group["answers"]) == 4
        check_problem(await service.get(f"{RUN}/groups/g00000003"), 404, "group-not-found")
        outcomes = (await service.get(f"{RUN}/outcomes")).json()
        assert outcomes == {"step": None, "groups": {"trained": 12}}


async def test_a_large_group_travels_zipped_where_the_client_takes_it(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        tokens = [f"t{number % 97} " for number in range(3000)]
        append_groups(tmp_path / "run", [make_group_line(77, step=1, tokens=tokens)])
        zipped = await service.get(f"{RUN}/groups/g00000077", headers={"accept-encoding": "gzip"})
        plain = await service.get(f"{RUN}/groups/g00000077", headers={"accept-encoding": "identity"})
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in plain.headers
        assert zipped.json() == plain.json()
        assert zipped.num_bytes_downloaded < len(gzip.compress(plain.content)) * 1.1


async def test_a_damaged_group_is_no_fault_of_the_request(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        line = make_group_line(78, step=1)
        line["responses"][0]["entropies"] = "none"
        append_groups(tmp_path / "run", [line])
        check_problem(await service.get(f"{RUN}/groups/g00000078"), 409, "damaged-file")


async def test_hostile_text_of_a_model_is_data_and_nothing_else(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        line = make_group_line(79, step=1, tokens=[HOSTILE, "b"], prompt=HOSTILE, prompt_id=HOSTILE)
        append_groups(tmp_path / "run", [line])
        response = await service.get(f"{RUN}/groups/g00000079")
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        text = json.dumps(response.json()["tokens"])
        assert "<script>" in text  # shown, as data
        assert not {"\x1b", "\u202e", "\u2028", "\0"} & set("".join(response.json()["tokens"]))  # escaped for terminals


async def test_log_lines_are_filtered_and_escaped(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        write_log(
            tmp_path / "run", "rollout-0", f"2026-11-21 07:00:00,000 INFO ready {HOSTILE}\n".replace("\u2028", "")
        )
        write_log(tmp_path / "run", "learner-0", "2026-11-21 07:00:01,000 WARNING slow step\nits second line\n")
        lines = (await service.get(f"{RUN}/logs")).json()["items"]
        assert [(line["worker"], line["level"]) for line in lines] == [
            *[("rollout-0", "INFO"), ("learner-0", "WARNING"), ("learner-0", "WARNING")],
        ]
        assert "\x1b" not in lines[0]["text"] and "\\x1b[31m" in lines[0]["text"]
        warned = (await service.get(f"{RUN}/logs", params={"level": "WARNING", "search": "SLOW"})).json()["items"]
        assert [line["text"].endswith("slow step") for line in warned] == [True]
        assert (await service.get(f"{RUN}/logs", params={"tail": 0})).json()["items"] == []
        check_problem(await service.get(f"{RUN}/logs", params={"level": "LOUD"}), 422, "validation")
        check_problem(await service.get(f"{RUN}/logs", params={"tail": 5001}), 422, "validation")
        check_problem(await service.get(f"{RUN}/logs", params={"since_seconds": "nan"}), 422, "validation")


async def test_new_log_lines_stream_from_where_a_client_was(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        run_dir = tmp_path / "run"
        write_log(run_dir, "rollout-0", "old\n")
        async with open_stream(service, f"{RUN}/logs/stream") as stream:
            assert (await stream.next())["retry"] == "3000"
            write_log(run_dir, "rollout-0", "first\nsecond\nhalf a li")
            events = [await stream.next(), await stream.next()]
            assert [event["data"]["text"] for event in events] == ["first", "second"]
            assert {event["event"] for event in events} == {"log"}
            # Within a batch only the last line has an id: a client that breaks off earlier gets the batch again.
            assert "id" not in events[0]
        write_log(run_dir, "rollout-0", "ne\n")
        async with open_stream(service, f"{RUN}/logs/stream", {"last-event-id": events[1]["id"]}) as stream:
            await stream.next()
            assert (await stream.next())["data"]["text"] == "half a line"


async def test_checkpoints_are_listed_pinned_and_removed_but_for_the_newest(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        store = make_store(tmp_path / "run")
        for step in (1, 2, 3):
            save_checkpoint(store, step)
        (tmp_path / "run" / "checkpoints" / "step-000001" / "manifest.json").write_text("{")
        page = (await service.get(f"{RUN}/checkpoints")).json()["items"]
        assert [(each["name"], each["complete"]) for each in page] == [
            *[("step-000003", True), ("step-000002", True), ("step-000001", False)],
        ]
        assert page[2]["problem"] and page[2]["step"] is None
        assert (page[0]["step"], page[0]["pinned"], len(page[0]["sha256_manifest"])) == (3, False, 64)
        path = f"{RUN}/checkpoints"
        check_problem(await service.delete(f"{path}/step-000003"), 409, "checkpoint-in-use")
        assert (await service.patch(f"{path}/step-000002", json={"pinned": True})).json()["pinned"] is True
        check_problem(await service.delete(f"{path}/step-000002"), 409, "checkpoint-in-use")
        assert (await service.patch(f"{path}/step-000002", json={"pinned": False})).json()["pinned"] is False
        assert (await service.delete(f"{path}/step-000002")).status_code == 204
        check_problem(await service.get(f"{path}/step-000002"), 404, "checkpoint-not-found")


async def test_a_checkpoint_that_the_run_is_paused_at_stays(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        store = make_store(tmp_path / "run")
        save_checkpoint(store, 1)
        operation = (await service.post(f"{RUN}/pause")).json()["operation"]
        details = {"operation_id": operation["id"], "checkpoint": "step-000001", "exactness": "learner_exact"}
        await service.report("paused", details=details)
        assert (await service.get(RUN)).json()["status"]["pause"]["checkpoint"] == "step-000001"
        save_checkpoint(store, 2)
        check_problem(await service.delete(f"{RUN}/checkpoints/step-000001"), 409, "checkpoint-in-use")


async def test_no_name_leads_out_of_the_checkpoints(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        save_checkpoint(make_store(tmp_path / "run"), 1)
        for name in ("%2e%2e", "..%2f..%2fetc", ".hidden", "UP", "a" * 65, "step-000001%00"):
            for method in ("GET", "PATCH", "DELETE"):
                body = {"pinned": True} if method == "PATCH" else None
                response = await service.client.request(method, f"{RUN}/checkpoints/{name}", json=body)
                assert response.status_code in (404, 422), (method, name)
        assert (tmp_path / "run" / GROUPS_FILE).exists()


async def test_evaluations_of_the_run_are_shown(tmp_path: Path) -> None:
    async with open_files(tmp_path) as service:
        items = (await service.get(f"{RUN}/evals")).json()["items"]
        assert [each["step"] for each in items] == [3, 0]
        assert items[0]["details"]["report"]["accuracy"] == 0.75
        one = (await service.get(f"{RUN}/evals/{items[0]['id']}")).json()
        assert one == items[0]
        check_problem(await service.get(f"{RUN}/evals/none"), 404, "evaluation-not-found")


async def test_a_directory_that_is_not_here_is_said_so(tmp_path: Path) -> None:
    description = replace(make_description(), run_dir=str(tmp_path / "elsewhere"))
    async with open_service(descriptions=(description,)) as service:
        for path in ("series/names", "groups", "logs", "checkpoints", "evals"):
            response = await service.get(f"{RUN}/{path}")
            assert response.status_code in (200, 404), (path, response.text)
            if response.status_code == 404:
                check_problem(response, 404, "run-directory-not-found")


async def test_a_secret_in_a_file_of_the_run_leaves_by_no_path(tmp_path: Path) -> None:
    secret = "canary-4711-secret"
    async with open_files(tmp_path, redactor=Redactor([secret])) as service:
        run_dir = tmp_path / "run"
        append_groups(run_dir, [make_group_line(80, step=1, tokens=[secret, "b"], prompt=secret, prompt_id=secret)])
        write_log(run_dir, "driver", f"2026-11-21 07:00:00,000 INFO token {secret}\n")
        await service.report("note", message=f"with {secret}", details={"api_key": "hidden-by-key"})
        await service.post(f"{RUN}/pause", json={"reason": secret})
        await service.patch(RUN, json={"labels": {"team": secret}, "notes": secret})
        paths = ["", "/status", "/events", "/operations", "/config", "/groups", "/groups/g00000080", "/logs", "/evals"]
        texts = [(await service.get(RUN + path)).text for path in paths]
        texts += [(await service.get("/v1/audit")).text, (await service.get("/v1/runs")).text]
        texts += [(await service.post(f"{RUN}/pause", json={"mode": secret})).text]
        texts += [(await service.get(f"{RUN}/series", params={"names": secret})).text]
        assert not [text for text in texts if secret in text or "hidden-by-key" in text]
        assert sum("[redacted]" in text for text in texts) >= 6


async def test_reading_a_run_needs_no_more_than_a_read_token(tmp_path: Path) -> None:
    async with open_files(tmp_path, access=Access(tokens=WITH_TOKENS, limits=FREE)) as service:
        for path in ("", "/status", "/series/names", "/groups", "/logs", "/checkpoints", "/evals", "/outcomes"):
            assert (await service.get(RUN + path, headers=bearer(Role.READ))).status_code == 200, path
