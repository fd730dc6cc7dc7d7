"""A Ray head node of a test's own: on loopback, with a token and a home of its own, ended by its processes' ids."""

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from stack_run import ROOT

BIN = ROOT / ".venv" / "bin"
CLUSTER_SECONDS = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ray_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the environment of its clients."""
    # Ray sends a job's driver to the cluster that was started last below its head's folder: not to be another's.
    with tempfile.TemporaryDirectory(prefix="ray-") as sessions, _ray_cluster(folder, sessions) as environment:
        yield environment


@contextmanager
def _ray_cluster(folder: Path, sessions: str) -> Iterator[dict[str, str]]:
    dashboard = free_port()
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_TMPDIR": sessions,
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    environment.pop("RAY_ADDRESS", None)
    words = [
        *("ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--port=0"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--object-store-memory=200000000"),
        *(f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"),
    ]
    with (folder / "ray.txt").open("w") as log:
        head = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for_dashboard(environment, head, folder / "ray.txt")
        yield environment
    finally:
        processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
        head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=20)
        for process in alive:
            process.kill()
        head.wait(timeout=20)


def _wait_for_dashboard(environment: dict[str, str], head: "subprocess.Popen[bytes]", log: Path) -> None:
    headers = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    deadline = time.monotonic() + CLUSTER_SECONDS
    while time.monotonic() < deadline:
        assert head.poll() is None, log.read_text()
        try:
            if httpx.get(environment["RAY_API_SERVER_ADDRESS"] + "/api/jobs/", headers=headers).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"no dashboard within {CLUSTER_SECONDS} s: {log.read_text()}")
