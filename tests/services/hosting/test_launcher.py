"""A control plane knows whether a run's process lives, and can end it with its supervisor."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from services.hosting.launcher import ProcessLauncher

SCRIPT = Path(__file__).parents[2] / "support" / "lock_holder.py"
ROOT = Path(__file__).parents[3]
SECONDS = 60.0


@pytest.fixture
def launcher() -> ProcessLauncher:
    return ProcessLauncher(url="", address="house", token="")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[psutil.Process]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path)], env=environment, cwd=ROOT)
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "held").exists():
        assert time.monotonic() < deadline and process.poll() is None
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    yield everyone[0]
    for each in everyone:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def test_a_directory_that_a_process_holds_is_alive(
    launcher: ProcessLauncher, holder: psutil.Process, tmp_path: Path
) -> None:
    assert holder.is_running()
    assert launcher.is_alive(tmp_path) is True


def test_killing_a_run_ends_its_supervisor_too(
    launcher: ProcessLauncher, holder: psutil.Process, tmp_path: Path
) -> None:
    everyone = [holder, *holder.children(recursive=True)]
    launcher.kill(tmp_path)
    _, alive = psutil.wait_procs(everyone, timeout=SECONDS)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert not (tmp_path / "restarted").exists(), "the supervisor saw its child die and could have begun again"
    assert launcher.is_alive(tmp_path) is False


def test_a_directory_that_nobody_holds_is_not_alive(launcher: ProcessLauncher, tmp_path: Path) -> None:
    assert launcher.is_alive(tmp_path) is False
    (tmp_path / ".lock").touch()
    assert launcher.is_alive(tmp_path) is False


def test_a_directory_of_another_host_cannot_be_judged(launcher: ProcessLauncher, tmp_path: Path) -> None:
    assert launcher.is_alive(tmp_path / "elsewhere") is None


def test_killing_what_is_not_there_is_harmless(launcher: ProcessLauncher, tmp_path: Path) -> None:
    launcher.kill(tmp_path)
    launcher.kill(tmp_path / "elsewhere")
