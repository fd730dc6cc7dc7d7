"""Reads this machine for the doctor: its processor, its GPUs as their driver shows them, what listens on ports."""

import csv
import io
import os
import platform
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
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
    return platform.machine(), len(os.sched_getaffinity(0)), cpu_flags(text)


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
