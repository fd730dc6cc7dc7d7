"""Reads this machine for the doctor: its processor, memory and GPUs as far as they are ours, what listens on ports."""

import csv
import io
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

CPU_INFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
"""Of a container: what it may take of its host, and what it holds."""

GPU_FIELDS = "name,memory.total,memory.used,driver_version"
GPU_COMMAND = ("nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits")
GPU_SECONDS = 20.0
_FLAG_KEYS = ("flags", "Features")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as its driver shows it."""

    name: str
    total_mib: int
    used_mib: int
    driver: str


def cpu_flags(text: str) -> frozenset[str]:
    """Features of the first processor in /proc/cpuinfo, as the kernel names them on x86-64 and aarch64."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _FLAG_KEYS:
            return frozenset(value.split())
    return frozenset()


def read_cpu() -> tuple[str, int, frozenset[str]]:
    """Architecture, processors that this process may use, and their features."""
    text = CPU_INFO.read_text(encoding="utf-8", errors="replace") if CPU_INFO.exists() else ""
    return platform.machine(), cpus_of(len(os.sched_getaffinity(0)), CGROUP), cpu_flags(text)


def cpus_of(of_host: int, cgroup: Path) -> int:
    """Processors that this process may use at a time: those of its host, or what its container is given of them."""
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    return min(of_host, max(1, int(quota) // int(period))) if quota.isdecimal() else of_host


def read_memory() -> tuple[int, int]:
    """Bytes of main memory in all, and those that are free: the host's, or the container's where it has a limit."""
    memory = psutil.virtual_memory()
    return memory_of(memory.total, memory.available, CGROUP)


def memory_of(total: int, available: int, cgroup: Path) -> tuple[int, int]:
    """As `read_memory`, of a host with so much of it."""
    limit = _read(cgroup / "memory.max")
    if not limit.isdecimal() or int(limit) >= total:
        return total, available
    # The kernel takes cached files back before it refuses anything.
    cached = re.search(r"^inactive_file (\d+)$", _read(cgroup / "memory.stat"), re.MULTILINE)
    held = int(_read(cgroup / "memory.current") or 0) - (int(cached[1]) if cached else 0)
    return int(limit), min(available, int(limit) - held)


def _read(path: Path) -> str:
    """Its text; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def count_gpus(devices: Iterable[Path], open_device: Callable[[Path, int], int] = os.open) -> int:
    """Device files that this process may open: a scheduler closes those of others, and leaves their names there."""
    return sum(1 for each in devices if _is_ours(each, open_device))


def _is_ours(device: Path, open_device: Callable[[Path, int], int]) -> bool:
    if not device.is_char_device():
        return False
    try:
        os.close(open_device(device, os.O_RDWR))
    except PermissionError:
        return False
    except OSError:
        # Ours, and broken: the driver says more.
        return True
    return True


def parse_gpus(text: str) -> list[Gpu]:
    """What `GPU_COMMAND` prints.

    Raises:
        ValueError: something else.
    """
    rows = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True) if row]
    return [
        Gpu(name=name, total_mib=int(total), used_mib=int(used), driver=driver) for name, total, used, driver in rows
    ]


def read_gpus() -> list[Gpu] | str:
    """GPUs as the driver shows them, or why it does not."""
    try:
        done = subprocess.run(GPU_COMMAND, capture_output=True, text=True, timeout=GPU_SECONDS, check=False)
    except FileNotFoundError:
        return "nvidia-smi is not here"
    except subprocess.TimeoutExpired:
        return f"nvidia-smi did not answer in {GPU_SECONDS:g} s"
    if done.returncode:
        return (done.stdout + done.stderr).strip().partition("\n")[0] or f"nvidia-smi ended with {done.returncode}"
    try:
        return parse_gpus(done.stdout)
    except ValueError:
        return f"nvidia-smi answered {done.stdout.strip().partition(chr(10))[0]!r}"


def ports_in_use(ports: Iterable[int]) -> list[int]:
    """Those of the loopback address on which nobody could listen now."""
    return [port for port in ports if _is_in_use(port)]


def _is_in_use(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connection has just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
