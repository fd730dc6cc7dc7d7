"""Measuring: calls in turn on one core, medians, and resident memory.

Seconds are those in which the process had a core (CPU time, all its threads added up): a machine that others use makes
wall time mean little, and on an idle one a single thread has both alike. What is compared runs A B A B, and a ratio is
the median over the pairs.
"""

import ctypes
import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil

Key = TypeVar("Key", bound=Hashable)
Call = Callable[[], object]

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_BYTES_PER_KIB, _BYTES_PER_MB = 1024, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Repetitions of one call.

    Args:
        cpu_seconds, wall_seconds: one entry per repetition.
    """

    cpu_seconds: tuple[float, ...]
    wall_seconds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Median CPU time."""
        return median(self.cpu_seconds)

    @property
    def cpu_share(self) -> float:
        """CPU over wall time: clearly below 1 where something else ran on the core."""
        return sum(self.cpu_seconds) / sum(self.wall_seconds)

    def over(self, other: "Timing") -> float:
        """Median of the ratios of repetitions that ran one after the other."""
        return median(a / b for a, b in zip(self.cpu_seconds, other.cpu_seconds, strict=True))


def time_in_turn(calls: Mapping[Key, Call], *, num_rounds: int, num_warm_ups: int = 1) -> dict[Key, Timing]:
    """Every call once a round, in the given order. Freeing a result is not timed."""
    for _ in range(num_warm_ups):
        for call in calls.values():
            call()
    walls: dict[Key, list[float]] = {key: [] for key in calls}
    cpus: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(num_rounds):
        for key, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            result = call()
            cpus[key].append(time.process_time() - cpu)
            walls[key].append(time.perf_counter() - wall)
            del result
    return {key: Timing(cpu_seconds=tuple(cpus[key]), wall_seconds=tuple(walls[key])) for key in calls}


def use_one_core() -> int | None:
    """Pin the process, and threads and processes it starts later, to the core that was idlest for half a second.

    Returns:
        The number of the core; None where the system has no affinity.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    busy = psutil.cpu_percent(interval=0.5, percpu=True)
    core = min(os.sched_getaffinity(0), key=lambda core: (busy[core], core))
    os.sched_setaffinity(0, {core})
    return core


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident memory of one call, 10^6 bytes.

    Args:
        peak_mb: highest of the process while the call ran.
        extra_mb: by how much that exceeds what the process held before, the result included.
    """

    peak_mb: float
    extra_mb: float


def measure_memory(call: Call) -> Memory:
    """Resident memory of a call.

    Raises:
        OSError: the system has no /proc/self/clear_refs (only Linux has).
    """
    # What earlier calls freed and the C library kept would be used again, unseen.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    # 5 resets the high-water mark to the current size (man 5 proc).
    _CLEAR_REFS.write_text("5")
    before = _status_mb("VmRSS")
    result = call()
    peak = _status_mb("VmHWM")
    del result
    return Memory(peak_mb=peak, extra_mb=peak - before)


def _status_mb(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * _BYTES_PER_KIB / _BYTES_PER_MB
