"""What `lessrl doctor` finds: pure rules over numbers that somebody else has read, each with what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.doctor.machine import Gpu

GIB = 2**30
MIN_SHM_BYTES, GOOD_SHM_BYTES = GIB // 4, 2 * GIB
MIN_DISK_BYTES, GOOD_DISK_BYTES = GIB, 20 * GIB
GOOD_OPEN_FILES = 4096
AUTH_MODES = ("token", "disabled")
MIN_MEMORY_BYTES, GOOD_MEMORY_BYTES = 2 * GIB, 6 * GIB
MIN_CPUS = 2
MAX_USED_SHARE = 0.1
FEATURES = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX-512 bf16": "avx512_bf16",
    "AMX bf16": "amx_bf16",
    "NEON": "asimd",
    "Arm bf16": "bf16",
}
"""Of processors, and the kernel's name for each."""

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
EXTRAS = {
    "postgres": "--store with a postgresql URL is refused",
    "tensorboard": "run.loggers tensorboard is refused",
    "wandb": "run.loggers wandb is refused",
    "mlflow": "run.loggers mlflow is refused",
}
"""What goes without each of them."""

PORTS = {
    6379: "`ray start --head --port N` takes another, and --address auto means the Ray that is there",
    8265: "`ray start --head --dashboard-port N` takes another",
}
"""Ports that a Ray head takes unless it is told otherwise, and what to do where one is in use."""

CPU_BUILD = "+cpu"


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report.

    Args:
        name: of what was looked at, short and stable.
        found: what was found.
        advice: what to do; "" where nothing is to be done.
    """

    name: str
    level: Level
    found: str
    advice: str = ""


def judge_versions(versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """Installed versions by name; None for what is not installed. Without some parts a run has no engine or learner."""
    for name, version in versions.items():
        if version is not None:
            yield Finding(name=name, level=Level.OK, found=version)
        else:
            advice = "runs that need it are refused; install lessrl[cpu] or lessrl[gpu] for all of them"
            yield Finding(name=name, level=Level.WARN, found="not installed", advice=advice)


def judge_shm(num_bytes: int | None) -> Finding:
    """Shared memory, through which Ray's objects and the data of engines pass.

    Args:
        num_bytes: size of /dev/shm; None where there is none.
    """
    advice = "start the container with --shm-size=8g, or mount a larger tmpfs on /dev/shm"
    if num_bytes is None:
        return Finding(name="shm", level=Level.FAIL, found="no /dev/shm", advice=advice)
    found = f"/dev/shm {num_bytes / GIB:.1f} GiB"
    return _against(num_bytes, MIN_SHM_BYTES, GOOD_SHM_BYTES, name="shm", found=found, advice=advice)


def judge_disk(free_bytes: int, folder: str) -> Finding:
    """Room for checkpoints."""
    found = f"{free_bytes / GIB:.1f} GiB free at {folder}"
    advice = "a checkpoint holds weights and optimizer: make room, or choose another folder with --runs"
    return _against(free_bytes, MIN_DISK_BYTES, GOOD_DISK_BYTES, name="disk", found=found, advice=advice)


def judge_open_files(limit: int) -> Finding:
    """How many files and sockets one process may hold."""
    is_enough = limit >= GOOD_OPEN_FILES
    advice = "" if is_enough else f"Ray and the control plane hold many sockets: ulimit -n {GOOD_OPEN_FILES} or more"
    return Finding(name="open files", level=Level.OK if is_enough else Level.WARN, found=str(limit), advice=advice)


def judge_gpus(num_devices: int, torch_version: str | None) -> Finding:
    """Devices that the system shows, and whether this torch can use them."""
    if not num_devices:
        return Finding(name="gpus", level=Level.OK, found="none: recipes with cluster.device cpu run")
    found = f"{num_devices} NVIDIA"
    if torch_version is not None and torch_version.endswith(CPU_BUILD):
        advice = "install lessrl[gpu]"
        return Finding(
            name="gpus", level=Level.WARN, found=f"{found}, torch {torch_version} cannot use them", advice=advice
        )
    return Finding(name="gpus", level=Level.OK, found=found)


def judge_auth(mode: str | None, *, has_token: bool, token_mode: int | None, has_address: bool) -> Finding:
    """How Ray asks who calls.

    Args:
        mode: RAY_AUTH_MODE; None where it is not set, which Ray reads as what other runs left behind.
        has_token: whether the environment or a file holds a token.
        token_mode: permission bits of that file; None where there is none.
        has_address: whether a cluster is named, which others may reach.
    """
    if token_mode is not None and token_mode & 0o077:
        advice = "chmod 600 it: whoever has the token runs code on the cluster"
        return Finding(
            name="ray auth", level=Level.FAIL, found=f"the token's file has mode {token_mode:04o}", advice=advice
        )
    if mode is None:
        level = Level.WARN if has_address else Level.OK
        advice = "set RAY_AUTH_MODE=token on every node, or disabled on purpose" if has_address else ""
        return Finding(name="ray auth", level=level, found="RAY_AUTH_MODE is not set", advice=advice)
    if mode not in AUTH_MODES:
        advice = f"set it to {' or '.join(AUTH_MODES)}"
        return Finding(name="ray auth", level=Level.FAIL, found=f"RAY_AUTH_MODE={mode}", advice=advice)
    if mode == "token" and not has_token and not has_address:
        found = "RAY_AUTH_MODE=token without a token: a run makes one for the Ray that it starts"
        return Finding(name="ray auth", level=Level.OK, found=found)
    if mode == "token" and not has_token:
        advice = "ray get-auth-token --generate, or set RAY_AUTH_TOKEN_PATH"
        return Finding(name="ray auth", level=Level.FAIL, found="RAY_AUTH_MODE=token without a token", advice=advice)
    if mode == "disabled" and has_address:
        advice = "whoever reaches the cluster's ports runs code on it; set token unless a firewall stands before it"
        return Finding(name="ray auth", level=Level.WARN, found="RAY_AUTH_MODE=disabled", advice=advice)
    return Finding(name="ray auth", level=Level.OK, found=f"RAY_AUTH_MODE={mode}")


def judge_store(wal_trouble: str, folder: str) -> Finding:
    """A write probe of the file system on which the control plane keeps its memory.

    Args:
        wal_trouble: why a write-ahead log does not work there; "" where it does.
    """
    if not wal_trouble:
        return Finding(name="store", level=Level.OK, found=f"SQLite writes at {folder}, with a write-ahead log")
    advice = "it works, more slowly; --store names a path on a local disk, or a Postgres database"
    found = f"SQLite at {folder} has no write-ahead log: {wal_trouble}"
    return Finding(name="store", level=Level.WARN, found=found, advice=advice)


def judge_extras(versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """What is installed beside the parts of a run, by the name of its extra; None for what is not. None is needed."""
    for extra, version in versions.items():
        found = version or f"not installed: {EXTRAS[extra]}"
        advice = "" if version else f"pip install 'lessrl[{extra}]' where it is wanted"
        yield Finding(name=extra, level=Level.OK, found=found, advice=advice)


def judge_cpu(machine: str, num_cpus: int, flags: frozenset[str], *, has_gpus: bool) -> Finding:
    """What vLLM and torch find in a processor.

    Args:
        machine: x86_64, aarch64, ...
        num_cpus: that this process may use.
        flags: as Linux names them; empty where they cannot be read.
    """
    features = [name for name, flag in FEATURES.items() if flag in flags]
    found = f"{machine}, {num_cpus} to use, {', '.join(features) or 'no vector features known'}"
    if has_gpus:
        return Finding(name="cpu", level=Level.OK, found=found)
    if machine == "x86_64" and flags and "avx2" not in flags:
        advice = "vLLM's CPU build needs AVX2: set rollout.engine.kind to hf, or use another machine"
        return Finding(name="cpu", level=Level.WARN, found=found, advice=advice)
    if num_cpus < MIN_CPUS:
        advice = f"engine and learner take turns on fewer than {MIN_CPUS} CPUs, and deadlines may be missed"
        return Finding(name="cpu", level=Level.WARN, found=found, advice=advice)
    slow = "bfloat16 is slow here: set rollout.engine.dtype and learner.dtype to float32"
    advice = "" if flags & BFLOAT16_FLAGS else slow
    return Finding(name="cpu", level=Level.OK, found=found, advice=advice)


def judge_memory(total: int, available: int) -> Finding:
    """Main memory, in which Ray keeps objects and every part of a run its own copy of the libraries."""
    found = f"{available / GIB:.1f} of {total / GIB:.1f} GiB are free"
    advice = "the quickstart takes about 6 GiB: end other work, or use a larger machine"
    return _against(available, MIN_MEMORY_BYTES, GOOD_MEMORY_BYTES, name="memory", found=found, advice=advice)


def judge_driver(gpus: Sequence[Gpu] | str, num_devices: int) -> Finding:
    """GPUs as their driver shows them.

    Args:
        gpus: or why it shows none.
        num_devices: that the system shows.
    """
    if isinstance(gpus, str):
        advice = "install the driver's tools; in a container, --gpus all"
        return Finding(name="gpu driver", level=Level.WARN, found=gpus, advice=advice)
    kinds = sorted({each.name for each in gpus})
    drivers = sorted({each.driver for each in gpus})
    free = min((each.total_mib - each.used_mib for each in gpus), default=0) / 1024
    found = f"driver {', '.join(drivers)}, {len(gpus)} x {', '.join(kinds)}, {free:.0f} GiB free at least"
    if len(gpus) < num_devices:
        advice = "a GPU that has fallen off: look at dmesg, and start the machine again"
        return Finding(name="gpu driver", level=Level.FAIL, found=found, advice=advice)
    if any(each.used_mib > MAX_USED_SHARE * each.total_mib for each in gpus):
        advice = "others use them: nvidia-smi names the processes; vLLM refuses to start without its share"
        return Finding(name="gpu driver", level=Level.WARN, found=found, advice=advice)
    return Finding(name="gpu driver", level=Level.OK, found=found)


def judge_ports(in_use: Sequence[int]) -> Finding:
    """Ports that a Ray head would take; one that is there already may well be meant.

    Args:
        in_use: of `PORTS`.
    """
    if not in_use:
        return Finding(name="ray ports", level=Level.OK, found=f"{', '.join(map(str, PORTS))} are free")
    advice = "; ".join(PORTS[port] for port in in_use)
    return Finding(name="ray ports", level=Level.OK, found=f"in use: {', '.join(map(str, in_use))}", advice=advice)


def worst(findings: Sequence[Finding]) -> Level:
    """What the whole report comes to."""
    levels = {each.level for each in findings}
    return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)


def _against(value: int, least: int, good: int, *, name: str, found: str, advice: str) -> Finding:
    if value >= good:
        return Finding(name=name, level=Level.OK, found=found)
    return Finding(name=name, level=Level.WARN if value >= least else Level.FAIL, found=found, advice=advice)
