"""A run's directory has one process at a time, and a dead one holds nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.run_lock import hold_run_dir, is_held
from shaping.errors import UserError

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from services.run_lock import hold_run_dir, is_held

with hold_run_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the directory until its input ends."""
    command = [sys.executable, "-c", HOLD, str(run_dir)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_which_holds_it(tmp_path: Path) -> None:
    with other_process(tmp_path) as other:
        with pytest.raises(UserError, match=rf"process {other.pid} on \S+ does \({tmp_path}\)"), hold_run_dir(tmp_path):
            pytest.fail("two processes hold one directory")
        other.kill()
        other.wait()
        with hold_run_dir(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} on ")


def test_a_directory_is_free_again_after_its_holder_and_others_are_not_held(tmp_path: Path) -> None:
    for _ in range(2):
        with hold_run_dir(tmp_path):
            (tmp_path / "other").mkdir(exist_ok=True)
            with hold_run_dir(tmp_path / "other"):
                pass


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be writable, found No such file"), hold_run_dir(tmp_path / "missing"):
        pytest.fail("held what is not there")


def test_whether_a_directory_is_held_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    assert is_held(tmp_path / "nowhere") is None
    assert is_held(tmp_path) is False
    with hold_run_dir(tmp_path):
        assert is_held(tmp_path) is True
    assert is_held(tmp_path) is False
    with hold_run_dir(tmp_path):
        pass
