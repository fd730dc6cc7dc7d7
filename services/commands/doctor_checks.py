"""What `lessrl doctor` finds: pure rules over numbers that somebody else has read, each with what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

GIB = 2**30
MIN_SHM_BYTES, GOOD_SHM_BYTES = GIB // 4, 2 * GIB
MIN_DISK_BYTES, GOOD_DISK_BYTES = GIB, 20 * GIB
GOOD_OPEN_FILES = 4096
AUTH_MODES = ("token", "disabled")

_CPU_BUILD = "+cpu"


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
    if torch_version is not None and torch_version.endswith(_CPU_BUILD):
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


def worst(findings: Sequence[Finding]) -> Level:
    """What the whole report comes to."""
    levels = {each.level for each in findings}
    return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)


def _against(value: int, least: int, good: int, *, name: str, found: str, advice: str) -> Finding:
    if value >= good:
        return Finding(name=name, level=Level.OK, found=found)
    return Finding(name=name, level=Level.WARN if value >= least else Level.FAIL, found=found, advice=advice)
