"""The doctor's self-test: one step of a tiny run in processes of its own, and what it says of each part."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.addresses import HOUSE_ADDRESS, LOCAL_ADDRESS
from services.doctor.checks import Finding, Level
from services.run_dir import METRICS_FILE, SUMMARY_FILE
from shaping.components import import_module_of
from shaping.groups import VerdictStatus

SECONDS, FULL_SECONDS = 60.0, 300.0
END_SECONDS = 15.0
PARTS = {"rollout": "engine", "shaping": "verifier", "learner": "learner"}
"""Roles of a run, and what of each is tested."""

NO_VERDICT = ("verdict_timed_out_rollouts", "verdict_crashed_rollouts")


def examine_parts(*, full: bool, has_torch: bool, device: str) -> Iterator[Finding]:
    """Run it, within its bound.

    Args:
        full: with vLLM, DeepSpeed and a Ray of its own, instead of torch alone in one process.
        has_torch: whether it is installed; without it there is nothing to test.
        device: "cpu" or "cuda".
    """
    if not has_torch:
        advice = "pip install 'lessrl[cpu]' or 'lessrl[gpu]', where runs are to work"
        yield Finding(name="self-test", level=Level.WARN, found="left out: torch is not installed", advice=advice)
        return
    with tempfile.TemporaryDirectory(prefix="lessrl-doctor-") as name:
        folder, seconds = Path(name), FULL_SECONDS if full else SECONDS
        recipe = import_module_of("services.doctor", "tiny_run").write_tiny_run(folder, full=full, device=device)
        address = LOCAL_ADDRESS if full else HOUSE_ADDRESS
        words = ["train", str(recipe), "--address", address, "--run-dir", str(folder / "run")]
        began = time.monotonic()
        printed = _run([sys.executable, "-m", "services.cli", *words], seconds)
        records, summary = _records(folder / "run" / METRICS_FILE), _object(folder / "run" / SUMMARY_FILE)
        took = time.monotonic() - began
        if printed is None:
            printed = f"it did not end within {seconds:g} s"
        yield from judge_parts(records, summary, said=printed, took=took)


def judge_parts(
    records: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], *, said: str, took: float
) -> Iterator[Finding]:
    """One line for each part.

    Args:
        records: of metrics.jsonl.
        summary: of summary.json; empty where the run did not come so far.
        said: the run's last word, "" for none.
        took: seconds.
    """
    ready = {worker["role"]: worker for each in records for worker in each.get("workers", ())}
    ready = {role: worker for role, worker in ready.items() if worker["state"] == "ready"}
    steps = [each for each in records if each["kind"] == "step"]
    failure = summary.get("failure") or {}
    for role, part in PARTS.items():
        name = f"self-test {part}"
        if steps:
            yield _passed(name, role, ready[role]["description"], steps[0], took)
        elif failure.get("role") == role or (role not in ready and not failure):
            cause = failure.get("cause") or said or "the run ended without a word"
            advice = "a run with this part would end so; `lessrl train` shows all of it"
            yield Finding(name=name, level=Level.FAIL, found=cause.removeprefix("lessrl: "), advice=advice)
        else:
            found = "started; the run ended before its step" if role in ready else "not reached"
            yield Finding(name=name, level=Level.WARN, found=found, advice="look at the line that failed")


def _passed(name: str, role: str, description: str, step: Mapping[str, Any], took: float) -> Finding:
    metrics = step["metrics"]
    if role == "rollout":
        return Finding(name=name, level=Level.OK, found=description)
    if role == "shaping":
        lost = sum(metrics.get(each) or 0 for each in NO_VERDICT)
        judged = sum(metrics.get(f"verdict_{status}_rollouts") or 0 for status in VerdictStatus)
        if lost:
            found = f"{lost:g} of {judged:g} verdicts are missing"
            advice = "its processes were killed or too slow: look for a limit on processes or memory (ulimit -u)"
            return Finding(name=name, level=Level.FAIL, found=found, advice=advice)
        return Finding(name=name, level=Level.OK, found=f"{judged:g} verdicts from a process of its own")
    return Finding(name=name, level=Level.OK, found=f"{description}; one step and its weight sync, {took:.0f} s in all")


def _run(command: Sequence[str], seconds: float) -> str | None:
    """What it said last; None where it did not end in time, and was ended."""
    # What its user has set for other runs, and for the control plane, is not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LESSRL_")}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # It ends its own children, and what is left is killed.
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    return next((line for line in reversed(said.splitlines()) if line.startswith("lessrl: ")), "")


def _records(path: Path) -> list[Mapping[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def _object(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return found
