"""A Ray cluster as deploy/k8s has one: a head that offers no CPUs and a worker that does, each a process tree.

On loopback, with a token and a home of its own. Like a pod, a tree is ended as a whole, with what its jobs left behind.
"""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from ray_cluster import free_port
from stack_run import ROOT

BIN = ROOT / ".venv" / "bin"
START_SECONDS = 180.0
POLL_SECONDS = 0.2


class RayPods:
    """Make it with `ray_pods`.

    Args:
        environment: of the pods and of their clients.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._folder = folder
        self._gcs = free_port()
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, head: Mapping[str, str], *, worker_cpus: int) -> None:
        """Both pods.

        Args:
            head: start parameters of the head, as a RayCluster writes them.
        """
        dashboard = free_port()
        self.environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
        given = [f"--{name}={head[name]}" for name in ("num-cpus", "num-gpus")]
        ports = (f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}")
        self._start("head", "--head", f"--port={self._gcs}", "--dashboard-host=127.0.0.1", *given, *ports)
        self._wait_for_nodes(1)
        self._start("worker", f"--address=127.0.0.1:{self._gcs}", f"--num-cpus={worker_cpus}")
        self._wait_for_nodes(2)

    def processes(self, pod: str) -> list[psutil.Process]:
        """Of the head or the worker, its raylet and all that it started."""
        root = psutil.Process(self._started[("head", "worker").index(pod)].pid)
        return [root, *root.children(recursive=True)]

    def run(self, *words: str, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        """A command as somebody in a pod gives it."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False)

    def end(self, *, mark: str) -> None:
        """Kill both trees, and what works apart from them, which has `mark` in its command line."""
        doomed = [each for name in ("head", "worker")[: len(self._started)] for each in self.processes(name)]
        doomed += [each for each in psutil.process_iter() if mark in _words_of(each) and each.pid != os.getpid()]
        doomed += [below for each in doomed for below in _children(each)]
        for each in doomed:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        for process in self._started:
            process.wait(timeout=20)
        psutil.wait_procs(doomed, timeout=20)
        self._started.clear()

    def _start(self, pod: str, *words: str) -> None:
        always = (
            *("--block", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000"),
            # Two nodes of one machine: what each would take by default the other one has.
            *(f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"),
        )
        with (self._folder / f"{pod}.txt").open("w") as log:
            self._started.append(
                subprocess.Popen(
                    [str(BIN / "ray"), "start", *words, *always],
                    env=self.environment,
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def _wait_for_nodes(self, number: int) -> None:
        url = self.environment["RAY_API_SERVER_ADDRESS"] + "/nodes?view=summary"
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        ends_at = time.monotonic() + START_SECONDS
        while time.monotonic() < ends_at:
            with suppress(httpx.TransportError, ValueError, KeyError):
                nodes = httpx.get(url, headers=headers).json()["data"]["summary"]
                if sum(each["raylet"].get("state") == "ALIVE" for each in nodes) == number:
                    return
            for process in self._started:
                assert process.poll() is None, "".join(each.read_text() for each in self._folder.glob("*.txt"))
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"no {number} nodes within {START_SECONDS:g} s")


@contextmanager
def ray_pods(folder: Path, *, mark: str, more: Mapping[str, str]) -> Iterator[RayPods]:
    """Pods that are not started yet; all are ended at the end.

    Args:
        mark: in the command lines of what works apart from their trees.
        more: environment of the pods.
    """
    own = {
        "HOME": str(folder),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "OMP_NUM_THREADS": "1",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LESSRL", "RAY", "COV"))}
    pods = RayPods(folder, kept | own | dict(more))
    try:
        yield pods
    finally:
        pods.end(mark=mark)


def _words_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []
