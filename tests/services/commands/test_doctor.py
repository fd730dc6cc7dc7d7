"""What the doctor makes of numbers, and that it says it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ray_cluster import ray_cluster
from stack_run import ROOT

from services.cli import main
from services.commands.doctor_checks import (
    GIB,
    Finding,
    Level,
    judge_auth,
    judge_disk,
    judge_gpus,
    judge_open_files,
    judge_shm,
    judge_store,
    judge_versions,
    worst,
)


@pytest.mark.parametrize(
    ("num_bytes", "level"),
    [(None, Level.FAIL), (64 << 20, Level.FAIL), (GIB // 4, Level.WARN), (GIB, Level.WARN), (2 * GIB, Level.OK)],
)
def test_shared_memory_of_a_bare_container_is_too_small(num_bytes: int | None, level: Level) -> None:
    assert judge_shm(num_bytes).level is level


@pytest.mark.parametrize(("free", "level"), [(GIB - 1, Level.FAIL), (GIB, Level.WARN), (20 * GIB, Level.OK)])
def test_disk_without_room_fails(free: int, level: Level) -> None:
    finding = judge_disk(free, "/runs")
    assert finding.level is level and "/runs" in finding.found and bool(finding.advice) is (level is not Level.OK)


@pytest.mark.parametrize(
    ("mode", "has_token", "token_mode", "has_address", "level"),
    [
        (None, False, None, False, Level.OK),
        (None, False, None, True, Level.WARN),
        ("token", True, 0o600, True, Level.OK),
        ("token", False, None, True, Level.FAIL),
        ("token", True, 0o644, True, Level.FAIL),
        ("disabled", False, None, False, Level.OK),
        ("disabled", False, None, True, Level.WARN),
        ("tokne", False, None, False, Level.FAIL),
    ],
)
def test_open_ray_is_told(
    mode: str | None, has_token: bool, token_mode: int | None, has_address: bool, level: Level
) -> None:
    finding = judge_auth(mode, has_token=has_token, token_mode=token_mode, has_address=has_address)
    assert finding.level is level and bool(finding.advice) is (level is not Level.OK)


def test_gpus_that_this_torch_cannot_use_are_told() -> None:
    assert judge_gpus(8, "2.13.0").level is Level.OK
    assert judge_gpus(8, "2.13.0+cpu").level is Level.WARN
    assert judge_gpus(0, "2.13.0+cpu").level is Level.OK


def test_missing_parts_and_small_limits_are_warnings() -> None:
    levels = [each.level for each in judge_versions({"lessrl": "0.1.0", "vllm": None})]
    assert levels == [Level.OK, Level.WARN]
    assert [judge_open_files(limit).level for limit in (1024, 4096)] == [Level.WARN, Level.OK]
    assert [judge_store(trouble, "/runs").level for trouble in ("", "disk I/O error")] == [Level.OK, Level.WARN]


def test_report_is_as_bad_as_its_worst_line() -> None:
    lines = [Finding(name="a", level=level, found="") for level in (Level.OK, Level.WARN, Level.FAIL)]
    assert [worst(lines[:count]) for count in (1, 2, 3)] == [Level.OK, Level.WARN, Level.FAIL]


def run_doctor(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *(str(word) for word in words)])
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LESSRL_URL", "LESSRL_TOKEN", "LESSRL_TOKEN_FILE", "LESSRL_STORE", "RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_each_thing_is_one_line_and_nothing_is_left_behind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = run_doctor("--json", "--runs", tmp_path / "later" / "runs")
    report = json.loads(capsys.readouterr().out)
    names = [each["name"] for each in report["findings"]]
    assert {"python", "lessrl", "ray", "gpus", "shm", "disk", "open files", "store", "ray auth", "ray cluster"} <= set(
        names
    )
    assert set(report["findings"][0]) == {"name", "level", "found", "advice"}
    assert code == (1 if report["level"] == "fail" else 0)
    assert list(tmp_path.iterdir()) == []


def test_control_plane_that_was_named_and_is_silent_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    assert run_doctor("--url", url) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if " control " in line)
    assert line.startswith("fail") and url in line


def test_cluster_that_was_named_and_is_silent_fails_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        address = f"127.0.0.1:{bound.getsockname()[1]}"
    assert run_doctor("--address", address) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if " ray cluster " in line)
    assert line.startswith("fail") and f"{address}: Connection refused" in line


@pytest.mark.stack
def test_cluster_that_answers_says_what_it_offers(tmp_path: Path) -> None:
    with ray_cluster(tmp_path) as environment:
        command = [sys.executable, "-m", "services.cli", "doctor", "--json", "--address", "auto"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    findings = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert findings["ray cluster"]["found"] == "auto: 1 nodes, 2 CPUs, 0 GPUs"
    assert findings["ray auth"]["level"] == "ok"


def test_settings_that_others_can_read_fail(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / ".config" / "lessrl" / "config"
    path.parent.mkdir(parents=True)
    path.write_text("token: a-secret-of-mine-0123456789")
    path.chmod(0o644)
    assert run_doctor() == 1
    told = capsys.readouterr().out
    assert "chmod 600" in told and "a-secret-of-mine" not in told
