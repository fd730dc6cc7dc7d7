"""Reads what `lessrl doctor` judges: this machine, the cluster and the control plane that are named."""

import os
import platform
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from services.client.endpoint import Endpoint, find_endpoint
from services.client.errors import EXIT_FAILED, EXIT_OK, CommandFailed, Refused
from services.client.http import ControlClient
from services.commands.screen import print_json, safe
from services.commands.service import DISTRIBUTIONS, installed
from services.control.records import StoreError
from services.control.store.postgres import open_postgres
from services.control.store.sqlite import wal_trouble
from services.doctor.checks import (
    CPU_BUILD,
    PORTS,
    Finding,
    Level,
    judge_auth,
    judge_cpu,
    judge_disk,
    judge_driver,
    judge_extras,
    judge_gpus,
    judge_memory,
    judge_open_files,
    judge_ports,
    judge_shm,
    judge_store,
    judge_versions,
    worst,
)
from services.doctor.machine import count_gpus, ports_in_use, read_cpu, read_gpus, read_memory
from services.doctor.model import examine_model
from services.doctor.self_test import examine_parts
from shaping.errors import UserError

SHM = Path("/dev/shm")
CONNECT_SECONDS = 1.0
RAY_SECONDS = 30.0
EXTRA_DISTRIBUTIONS = {
    "postgres": "psycopg",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow-skinny",
}
"""By extra: what it installs."""

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look at.

    Args:
        runs: folder of runs.
        store: path or URL; "" for one in `runs`.
        address: of a Ray cluster; "" for none.
        url: of the control plane; "" for the one that every command takes.
        model: a recipe's file, a model's folder, or a Hugging Face name; "" for none.
        layers: files that are merged into that recipe.
        has_self_test: run a tiny run; `is_full`: with vLLM, DeepSpeed and Ray.
    """

    runs: Path
    store: str
    address: str
    url: str
    model: str
    has_self_test: bool
    is_full: bool
    layers: tuple[Path, ...] = ()


def report(wanted: Wanted, *, as_json: bool) -> int:
    """Look, and print what was found.

    Returns:
        The exit code: 1 where something fails.
    """
    findings = list(_examine(wanted))
    if as_json:
        lines = [
            {"name": each.name, "level": each.level, "found": each.found, "advice": each.advice} for each in findings
        ]
        print_json({"level": worst(findings), "findings": lines})
    else:
        _print(findings)
    return EXIT_FAILED if worst(findings) is Level.FAIL else EXIT_OK


def _print(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        said = Text(safe(each.found))
        if each.advice:
            said.append(f"; {safe(each.advice)}", style="bright_black")
        table.add_row(Text(each.level, style=_STYLES[each.level]), each.name, said)
    Console().print(table)


def _examine(wanted: Wanted) -> Iterator[Finding]:
    yield Finding(name="python", level=Level.OK, found=platform.python_version())
    yield from judge_versions({name: installed(name) for name in DISTRIBUTIONS})
    yield from judge_extras({name: _version(distribution) for name, distribution in EXTRA_DISTRIBUTIONS.items()})
    num_gpus = count_gpus(Path("/dev").glob("nvidia[0-9]*"))
    machine, num_cpus, flags = read_cpu()
    yield judge_cpu(machine, num_cpus, flags, has_gpus=num_gpus > 0)
    yield judge_memory(*read_memory())
    yield judge_gpus(num_gpus, torch := installed("torch"))
    if num_gpus:
        yield judge_driver(read_gpus(), num_gpus)
    yield judge_shm(shutil.disk_usage(SHM).total if SHM.is_dir() else None)
    folder = _existing(wanted.runs)
    yield judge_disk(shutil.disk_usage(folder).free, str(folder))
    yield judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield judge_ports(ports_in_use(PORTS))
    yield _store(wanted.store, folder)
    yield _auth(wanted.address)
    yield _ray(wanted.address)
    yield from _control_plane(wanted.url)
    if wanted.model:
        yield from examine_model(wanted.model, layers=wanted.layers)
    if wanted.has_self_test:
        device = "cuda" if num_gpus and torch and not torch.endswith(CPU_BUILD) else "cpu"
        yield from examine_parts(full=wanted.is_full, has_torch=torch is not None, device=device)


def _version(distribution: str) -> str | None:
    try:
        return installed_version(distribution)
    except PackageNotFoundError:
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())


def _store(store: str, folder: Path) -> Finding:
    if "://" in store:
        return _database(store)
    place = _existing(Path(store).parent) if store else folder
    try:
        with tempfile.TemporaryDirectory(prefix=".lessrl-doctor-", dir=place) as scratch:
            return judge_store(wal_trouble(Path(scratch) / "probe.db"), str(place))
    except OSError as error:
        advice = "make it writable, or choose another with --runs or --store"
        return Finding(
            name="store", level=Level.FAIL, found=f"{place} cannot be written: {error.strerror}", advice=advice
        )


def _database(store: str) -> Finding:
    try:
        opened = open_postgres(store)
        try:
            opened.engine.connect().close()
        finally:
            opened.close()
    except StoreError as error:
        return Finding(name="store", level=Level.WARN, found=str(error))
    except UserError as error:
        return Finding(name="store", level=Level.FAIL, found=str(error))
    except SQLAlchemyError as error:
        first = str(error).strip().splitlines()[0]
        return Finding(name="store", level=Level.FAIL, found=f"no database answers: {first}", advice="check --store")
    return Finding(name="store", level=Level.OK, found="the database answers")


def _auth(address: str) -> Finding:
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    mode = stat.S_IMODE(path.stat().st_mode) if path.is_file() else None
    has_token = bool(os.environ.get("RAY_AUTH_TOKEN")) or mode is not None
    return judge_auth(os.environ.get("RAY_AUTH_MODE"), has_token=has_token, token_mode=mode, has_address=bool(address))


def _ray(address: str) -> Finding:
    name = "ray cluster"
    if not address:
        return Finding(name=name, level=Level.OK, found="none is named: each run starts a Ray of its own")
    if trouble := _silence_at(address):
        advice = "start one with `ray start --head`, or name another with --address or RAY_ADDRESS"
        return Finding(name=name, level=Level.FAIL, found=f"{address}: {trouble}", advice=advice)
    command = [sys.executable, "-m", "services.doctor.ray_probe", address]
    try:
        probed = subprocess.run(command, capture_output=True, text=True, timeout=RAY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        found = f"{address} did not answer in {RAY_SECONDS:g} s"
        return Finding(name=name, level=Level.FAIL, found=found, advice="look at its head: ray status")
    said = (probed.stdout.strip().splitlines() or ["the probe ended without a word"])[-1]
    level = Level.OK if probed.returncode == 0 else Level.FAIL
    return Finding(name=name, level=level, found=f"{address}: {said}")


def _silence_at(address: str) -> str:
    """Why nobody can be there, where that can be told without Ray; "" otherwise."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _control_plane(url: str) -> Iterator[Finding]:
    try:
        endpoint = find_endpoint(url)
    except UserError as error:
        yield Finding(name="control", level=Level.FAIL, found=str(error))
        return
    with ControlClient(endpoint) as client:
        try:
            ready = client.get("/readyz")
        except Refused as error:
            checks = error.problem.get("checks") or {}
            trouble = ", ".join(f"{name}: {said}" for name, said in checks.items() if said != "ok") or str(error)
            yield Finding(name="control", level=Level.FAIL, found=f"{endpoint.url} is not ready: {trouble}")
            return
        except CommandFailed as error:
            yield _silent(endpoint, str(error), is_wanted=bool(url or os.environ.get("LESSRL_URL")))
            return
        yield Finding(name="control", level=Level.OK, found=f"{endpoint.url} is {ready.get('status')}")
        try:
            client.get("/v1/runs", page_size=1)
        except CommandFailed as error:
            yield Finding(name="token", level=Level.FAIL, found=str(error))
            return
        yield Finding(name="token", level=Level.OK, found="accepted" if endpoint.token else "none is needed")


def _silent(endpoint: Endpoint, error: str, *, is_wanted: bool) -> Finding:
    """Where no control plane answers: a free port is as good as one, unless one was named."""
    if is_wanted:
        return Finding(name="control", level=Level.FAIL, found=error)
    parts = urlsplit(endpoint.url)
    with socket.socket() as probe:
        probe.settimeout(CONNECT_SECONDS)
        is_used = probe.connect_ex((parts.hostname or "127.0.0.1", parts.port or 80)) == 0
    if is_used:
        advice = "stop it, or serve on another with --port"
        return Finding(name="port", level=Level.WARN, found=f"something else answers at {endpoint.url}", advice=advice)
    return Finding(name="port", level=Level.OK, found=f"{endpoint.url} is free for `lessrl serve`")
