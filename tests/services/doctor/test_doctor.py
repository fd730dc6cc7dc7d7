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
from services.doctor.checks import (
    GIB,
    Finding,
    Level,
    judge_auth,
    judge_cpu,
    judge_disk,
    judge_driver,
    judge_extras,
    judge_gpus,
    judge_memory,
    judge_open_files,
    judge_ports,
    judge_shm,
    judge_store,
    judge_versions,
    worst,
)
from services.doctor.machine import Gpu, cpu_flags, parse_gpus, ports_in_use


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
        # The Ray of a run's own gets a token of the run's own: `docker run ... lessrl train`.
        ("token", False, None, False, Level.OK),
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


@pytest.mark.parametrize(
    ("machine", "num_cpus", "flags", "has_gpus", "level", "told"),
    [
        ("x86_64", 8, {"avx2", "avx512f", "avx512_bf16"}, False, Level.OK, ""),
        ("x86_64", 8, {"avx2"}, False, Level.OK, "bfloat16 is slow"),
        ("x86_64", 8, {"sse4_2"}, False, Level.WARN, "needs AVX2"),
        ("x86_64", 1, {"avx2"}, False, Level.WARN, "take turns"),
        ("aarch64", 8, {"asimd", "bf16"}, False, Level.OK, ""),
        # Nothing can be read, and nothing is claimed.
        ("x86_64", 8, set(), False, Level.OK, "bfloat16 is slow"),
        # A GPU does the work.
        ("x86_64", 1, {"sse4_2"}, True, Level.OK, ""),
    ],
)
def test_a_processor_is_judged_by_what_vllm_needs_of_it(
    machine: str, num_cpus: int, flags: set[str], has_gpus: bool, level: Level, told: str
) -> None:
    finding = judge_cpu(machine, num_cpus, frozenset(flags), has_gpus=has_gpus)
    assert finding.level is level and told in finding.advice and bool(told) is bool(finding.advice)


def test_features_are_read_as_the_kernel_writes_them() -> None:
    intel = "processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    assert cpu_flags(intel) == {"fpu", "avx2", "avx512_bf16"}
    assert cpu_flags("processor\t: 0\nFeatures\t: fp asimd bf16\n") == {"fp", "asimd", "bf16"}
    assert cpu_flags("") == frozenset()


def gpu(used_mib: int = 4) -> Gpu:
    return Gpu(name="NVIDIA H100 80GB HBM3", total_mib=81559, used_mib=used_mib, driver="570.86.15")


def test_gpus_are_read_from_their_drivers_table() -> None:
    line = "NVIDIA H100 80GB HBM3, 81559, 4, 570.86.15\n"
    assert parse_gpus(2 * line) == [gpu(), gpu()]
    with pytest.raises(ValueError):
        parse_gpus("NVIDIA-SMI has failed\n")


@pytest.mark.parametrize(
    ("gpus", "num_devices", "level", "told"),
    [
        # 81559 - 4 MiB are 79.6 GiB.
        ([gpu(), gpu()], 2, Level.OK, "driver 570.86.15, 2 x NVIDIA H100 80GB HBM3, 80 GiB free at least"),
        ([gpu(), gpu(40000)], 2, Level.WARN, "41 GiB free"),
        ([gpu()], 2, Level.FAIL, "1 x"),
        ("nvidia-smi is not here", 2, Level.WARN, "nvidia-smi is not here"),
    ],
)
def test_gpus_that_are_used_or_lost_are_told(gpus: list[Gpu] | str, num_devices: int, level: Level, told: str) -> None:
    finding = judge_driver(gpus, num_devices)
    assert finding.level is level and told in finding.found and bool(finding.advice) is (level is not Level.OK)


def test_an_extra_that_is_missing_says_what_goes_without_it_and_how_to_get_it() -> None:
    present, missing = judge_extras({"tensorboard": "2.21.0", "wandb": None})
    assert (present.found, present.advice) == ("2.21.0", "")
    assert missing.found == "not installed: run.loggers wandb is refused"
    assert missing.advice == "pip install 'lessrl[wandb]' where it is wanted"


@pytest.mark.parametrize(("available", "level"), [(1, Level.FAIL), (2, Level.WARN), (6, Level.OK)])
def test_little_memory_is_told(available: int, level: Level) -> None:
    assert judge_memory(16 * GIB, available * GIB).level is level


def test_a_port_in_use_is_found_and_what_to_do_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        assert ports_in_use([port]) == [port]
    assert ports_in_use([port]) == []
    assert "6379, 8265 are free" in judge_ports([]).found
    assert "ray start --head --dashboard-port N" in judge_ports([8265]).advice


def test_report_is_as_bad_as_its_worst_line() -> None:
    lines = [Finding(name="a", level=level, found="") for level in (Level.OK, Level.WARN, Level.FAIL)]
    assert [worst(lines[:count]) for count in (1, 2, 3)] == [Level.OK, Level.WARN, Level.FAIL]


def run_doctor(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--no-self-test", *(str(word) for word in words)])
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
        command = [sys.executable, "-m", "services.cli", "doctor", "--no-self-test", "--json", "--address", "auto"]
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
