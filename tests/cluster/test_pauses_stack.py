"""Pauses of a real run: vLLM and DeepSpeed ZeRO-3 behind Ray, a staleness of 2, every mode, over HTTP."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from ledger_law import check_ledger
from stack_run import StackRun, read_lines, started
from survival_recipe import GROUPS_PER_STEP, write_vllm_survival

START_SECONDS = 400.0
CALL_SECONDS = 120.0

pytestmark = pytest.mark.slow


class Api:
    """The control plane of one run, over HTTP."""

    def __init__(self, run_dir: Path) -> None:
        whereabouts = json.loads((run_dir / "control.json").read_text())
        self._run = f"{whereabouts['url']}/v1/runs/{whereabouts['run_id']}"

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = httpx.request(method, self._run + path, json=body, timeout=10.0)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    @property
    def state(self) -> str:
        return str(self.ask("GET", "")["status"]["state"])


def pause(run: StackRun, api: Api, body: dict[str, Any]) -> dict[str, Any]:
    """Pause, stay so for a moment, and resume; what `paused` said."""
    known = len(run.events("paused"))
    api.ask("POST", "/pause", body)
    run.wait_for("the pause", lambda: api.state == "paused", CALL_SECONDS)
    run.wait_for("what it said", lambda: len(run.events("paused")) > known, CALL_SECONDS)
    num_steps = len(run.records("step"))
    api.ask("POST", "/resume")
    run.wait_for("the resume", lambda: api.state == "running", CALL_SECONDS)
    run.wait_for("a step after it", lambda: len(run.records("step")) > num_steps, CALL_SECONDS)
    details: dict[str, Any] = run.events("paused")[-1]["details"]
    return details


def test_every_mode_pauses_and_resumes_a_run_on_vllm_and_deepspeed_and_nothing_is_lost(tmp_path: Path) -> None:
    recipe, run_dir = write_vllm_survival(tmp_path), tmp_path / "run"
    words = ["train", str(recipe), "--address", "local", "--run-dir", str(run_dir)]
    with started(tmp_path, words) as run:
        run.wait_for("two steps", lambda: len(run.records("step")) > 1, START_SECONDS)
        api = Api(run_dir)
        for mode in ("freeze", "abort", "drain", "abort", "freeze"):
            details = pause(run, api, {"mode": mode, "checkpoint": True})
            saved = [each["details"]["checkpoint"] for each in run.events("checkpoint_saved")]
            assert details["checkpoint"] in saved
            assert details["exactness"] == ("none" if mode == "freeze" else "learner_exact")
        # On a CPU vLLM gives nothing back, and the pause says so before it stops anything.
        operation = api.ask("POST", "/pause", {"mode": "abort", "release": "kv_cache"})["operation"]
        where = f"/operations/{operation['id']}"
        run.wait_for("its failure", lambda: api.ask("GET", where)["state"] == "failed", CALL_SECONDS)
        assert "release must be one that every engine can do, all, none, got kv_cache" in api.ask("GET", where)["error"]
        assert api.state == "running"
        # Nobody failed, and nobody was taken for dead.
        assert run.events("group_retried", "worker_left_out", "weight_sync_aborted") == []
        run.process.send_signal(signal.SIGINT)
        assert run.wait(CALL_SECONDS) == 130, run.output()
        assert run.left_over(30) == []
    steps = 6 + max(each["step"] for each in read_lines(run_dir / "metrics.jsonl") if each["kind"] == "step")
    with started(tmp_path, ["resume", str(run_dir), "--address", "local", "--set", f"run.steps={steps}"]) as run:
        assert run.wait(START_SECONDS) == 0, run.output()
    check_ledger(run_dir, num_steps=steps, groups_per_step=GROUPS_PER_STEP)
