"""The run of a Ray job is no part of the job's process tree, and learns at once when its driver is gone."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from services.hosting.driver import EXIT_UNFORESEEN, EXIT_USER_ERROR

SCRIPT = Path(__file__).parents[2] / "support" / "driven_work.py"
ROOT = Path(__file__).parents[3]
SECONDS = 60.0


def begin(folder: Path, how: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), how], cwd=ROOT, env=_environment())


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}


def worker(folder: Path) -> psutil.Process:
    wait_for(folder / "pid")
    return psutil.Process(int((folder / "pid").read_text()))


def wait_for(path: Path) -> None:
    """A file of another process: there is nothing else to wait on."""
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"


def test_a_driver_exits_with_the_code_of_its_work(tmp_path: Path) -> None:
    assert begin(tmp_path, "ends").wait(SECONDS) == 7


def test_a_mistake_of_the_user_keeps_its_exit_code(tmp_path: Path) -> None:
    assert begin(tmp_path, "fails").wait(SECONDS) == EXIT_USER_ERROR


def test_the_work_is_no_descendant_of_its_driver(tmp_path: Path) -> None:
    driver = begin(tmp_path, "waits")
    found = worker(tmp_path)
    assert found.pid not in {each.pid for each in psutil.Process(driver.pid).children(recursive=True)}
    found.send_signal(signal.SIGINT)
    assert driver.wait(SECONDS) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_driver_interrupts_the_work(tmp_path: Path, number: signal.Signals) -> None:
    driver = begin(tmp_path, "waits")
    worker(tmp_path)
    driver.send_signal(number)
    assert driver.wait(SECONDS) == 130


def test_a_driver_that_is_killed_interrupts_its_work(tmp_path: Path) -> None:
    driver = begin(tmp_path, "waits")
    found = worker(tmp_path)
    driver.kill()
    driver.wait()
    psutil.wait_procs([found], timeout=SECONDS)
    assert (tmp_path / "interrupted").exists()


def test_work_that_is_kept_alive_goes_on_without_its_driver(tmp_path: Path) -> None:
    driver = begin(tmp_path, "keeps")
    found = worker(tmp_path)
    driver.kill()
    driver.wait()
    (tmp_path / "go").touch()
    psutil.wait_procs([found], timeout=SECONDS)
    assert (tmp_path / "went_on").exists()
    assert not (tmp_path / "interrupted").exists()


def test_work_that_is_killed_has_no_code_of_its_own(tmp_path: Path) -> None:
    driver = begin(tmp_path, "waits")
    worker(tmp_path).kill()
    assert driver.wait(SECONDS) == EXIT_UNFORESEEN
