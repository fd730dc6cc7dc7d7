"""What the doctor reads of a machine: what this process may take of it, not what stands around it."""

import errno
import os
from pathlib import Path

import pytest

from services.doctor.machine import count_gpus, cpus_of, memory_of

GIB = 2**30


def write_cgroup(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
    return folder


def test_a_container_has_its_own_memory_and_cached_files_are_free(tmp_path: Path) -> None:
    stat = f"anon {2 * GIB}\ninactive_file {GIB}\nactive_file 0"
    cgroup = write_cgroup(tmp_path, memory_max=str(8 * GIB), memory_current=str(3 * GIB), memory_stat=stat)
    # 8 GiB, of which 3 - 1 are held.
    assert memory_of(64 * GIB, 60 * GIB, cgroup) == (8 * GIB, 6 * GIB)
    # Its host has less than that to give.
    assert memory_of(64 * GIB, GIB, cgroup) == (8 * GIB, GIB)


@pytest.mark.parametrize("limit", [None, "max", str(100 * GIB)])
def test_without_a_limit_the_hosts_memory_counts(tmp_path: Path, limit: str | None) -> None:
    cgroup = write_cgroup(tmp_path, **({} if limit is None else {"memory_max": limit}))
    assert memory_of(64 * GIB, 60 * GIB, cgroup) == (64 * GIB, 60 * GIB)


@pytest.mark.parametrize(("quota", "num_cpus"), [(None, 8), ("max 100000", 8), ("250000 100000", 2), ("5 100", 1)])
def test_a_container_has_its_own_processors(tmp_path: Path, quota: str | None, num_cpus: int) -> None:
    cgroup = write_cgroup(tmp_path, **({} if quota is None else {"cpu_max": quota}))
    assert cpus_of(8, cgroup) == num_cpus


def test_a_gpu_that_a_scheduler_gave_to_somebody_else_is_not_ours(tmp_path: Path) -> None:
    refusals = {"zero": errno.EPERM, "full": errno.EIO}

    def open_device(path: Path, flags: int) -> int:
        if path.name in refusals:
            raise OSError(refusals[path.name], "refused")
        return os.open(path, flags)

    devices = [Path("/dev/null"), Path("/dev/zero"), Path("/dev/full"), tmp_path]
    # The second is another job's; the third is broken, which is for the driver to say; the last is no device.
    assert count_gpus(devices, open_device) == 2
