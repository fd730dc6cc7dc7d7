"""The doctor's self-test: each part has a line, and the part that fails is the one that is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stack_run import ROOT

from services.doctor.checks import Finding, Level
from services.doctor.self_test import examine_parts, judge_parts

ROLES = ("rollout", "shaping", "learner")


def ready(*roles: str) -> list[dict[str, Any]]:
    workers = [{"role": role, "state": "ready", "description": f"a {role}"} for role in roles]
    return [{"kind": "event", "workers": [worker]} for worker in workers]


def step(**verdicts: float) -> dict[str, Any]:
    return {"kind": "step", "metrics": {f"verdict_{status}_rollouts": count for status, count in verdicts.items()}}


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {each.name.removeprefix("self-test "): each.level for each in findings}


def test_a_run_that_made_its_step_says_what_each_part_is() -> None:
    records = [*ready(*ROLES), step(correct=1.0, wrong=7.0, timed_out=0.0)]
    engine, verifier, learner = judge_parts(records, {"status": "completed"}, said="", took=7.0)
    assert {engine.level, verifier.level, learner.level} == {Level.OK}
    assert engine.found == "a rollout" and verifier.found == "8 verdicts from a process of its own"
    assert learner.found == "a learner; one step and its weight sync, 7 s in all"


def test_verdicts_that_are_missing_are_the_verifiers_fault() -> None:
    records = [*ready(*ROLES), step(wrong=6.0, timed_out=1.0, crashed=1.0)]
    findings = list(judge_parts(records, {}, said="", took=7.0))
    assert levels(findings) == {"engine": Level.OK, "verifier": Level.FAIL, "learner": Level.OK}
    assert findings[1].found == "2 of 8 verdicts are missing"


def test_the_part_that_ended_the_run_is_named_with_its_cause() -> None:
    summary = {"failure": {"role": "rollout", "cause": "vLLM did not start: no AVX2"}}
    findings = list(judge_parts(ready("learner"), summary, said="", took=7.0))
    assert levels(findings) == {"engine": Level.FAIL, "verifier": Level.WARN, "learner": Level.WARN}
    assert findings[0].found == "vLLM did not start: no AVX2" and "lessrl train" in findings[0].advice


def test_a_run_that_did_not_end_in_time_blames_what_was_not_ready() -> None:
    findings = list(judge_parts(ready("rollout", "shaping"), {}, said="it did not end within 60 s", took=60.0))
    assert levels(findings) == {"engine": Level.WARN, "verifier": Level.WARN, "learner": Level.FAIL}
    assert findings[2].found == "it did not end within 60 s"


def test_a_run_that_was_refused_says_so_once_for_each_part() -> None:
    findings = list(judge_parts([], {}, said="lessrl: the disk is full", took=1.0))
    assert [(each.level, each.found) for each in findings] == [(Level.FAIL, "the disk is full")] * 3


def test_without_torch_nothing_is_tried() -> None:
    (finding,) = examine_parts(full=False, has_torch=False, device="cpu")
    assert finding.level is Level.WARN and "torch is not installed" in finding.found


def self_test(tmp_path: Path, *words: str) -> dict[str, dict[str, str]]:
    command = [sys.executable, "-m", "services.cli", "doctor", "--json", "--runs", str(tmp_path), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {each["name"]: each for each in json.loads(done.stdout)["findings"]}


@pytest.mark.stack
def test_engine_verifier_and_learner_work_here(tmp_path: Path) -> None:
    found = self_test(tmp_path)
    for part, told in (("engine", "transformers"), ("verifier", "8 verdicts"), ("learner", "torch")):
        line = found[f"self-test {part}"]
        assert line["level"] == "ok" and told in line["found"], line


@pytest.mark.slow
def test_vllm_deepspeed_and_ray_work_here(tmp_path: Path) -> None:
    found = self_test(tmp_path, "--full")
    for part, told in (("engine", "vLLM"), ("verifier", "8 verdicts"), ("learner", "ZeRO-3")):
        line = found[f"self-test {part}"]
        assert line["level"] == "ok" and told in line["found"], line
