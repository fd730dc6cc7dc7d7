"""A full disk and a killed process leave the checkpoints that there were, and never half of one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SUPPORT = ROOT / "tests" / "support"
MOUNT = 'mount -t tmpfs -o size=128k tmpfs "$1" && shift && exec "$@"'


def on_small_disk(folder: Path, *command: str) -> list[str]:
    """A command that has a disk of 128 KiB at `folder`, which nobody else sees."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(folder), *command]


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(on_small_disk(folder, "true"), capture_output=True, check=False).returncode == 0


def records_of(command: list[str]) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SUPPORT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_disk_that_fills_anywhere_in_a_save_is_said_and_leaves_what_there_was(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this system mounts no file system for an ordinary user")
    worker = str(SUPPORT / "full_disk_worker.py")
    *failed, saved = records_of(on_small_disk(tmp_path, sys.executable, worker, str(tmp_path)))
    for each in failed:
        assert "No space left on device" in each["error"]
        assert (each["latest"], each["passed_over"], each["entries"]) == ("step-000001", 0, ["step-000001"])
        assert each["num_pages_free"] == each["num_pages_free_before"]
    # The disk filled in each of the files in turn, the last one included, and the message says in which.
    named = [file for file in ("groups.safetensors", "run_state.json", "manifest.json") if file in str(failed)]
    assert named == ["groups.safetensors", "run_state.json", "manifest.json"]
    assert all(sum(f"{file}" in each["error"].partition("(")[0] for file in named) == 1 for each in failed)
    assert saved["latest"] == "step-000002"


@pytest.mark.stack
def test_a_save_killed_at_any_call_to_the_disk_leaves_the_old_or_the_new_one_whole(tmp_path: Path) -> None:
    records = records_of([sys.executable, str(SUPPORT / "killed_save_worker.py"), str(tmp_path), "save"])
    assert {"mkdir", "open", "write", "fsync", "rename"} <= {each["call"] for each in records}
    for each in records:
        assert each["is_whole"] and each["num_damaged"] == 0 and each["hidden_after_next_save"] == []
        assert each["steps"] in ([1], [1, 2]) and each["latest"] == each["steps"][-1]
    # Until the one rename the old one is the latest, from then on the new one.
    latest = [each["latest"] for each in records]
    renamed = [each["call"] for each in records].index("rename")
    assert latest == [1] * (renamed + 1) + [2] * (len(latest) - renamed - 1)


@pytest.mark.stack
def test_a_removal_killed_at_any_call_to_the_disk_leaves_nothing_by_half(tmp_path: Path) -> None:
    records = records_of([sys.executable, str(SUPPORT / "killed_save_worker.py"), str(tmp_path), "remove"])
    assert {"rename", "unlink", "rmdir"} <= {each["call"] for each in records}
    for each in records:
        assert each["is_whole"] and each["num_damaged"] == 0 and each["hidden_after_next_save"] == []
        assert each["steps"] in ([1, 2], [2]) and each["latest"] == 2
