"""`lessrl train` as a process of its own, steered over HTTP by whoever started it, and its Ray's metrics endpoints.

What is ended here is found below the run's own process, by id: never another run's.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
TITLES = {"rollout": "ray::RolloutActor", "shaping": "ray::ShapingActor"}
DISCOVERY_FILE = "prom_metrics_service_discovery.json"
POLL_SECONDS = 0.2
STOP_SECONDS = 60.0
_SESSION = re.compile(r"(/\S*/session_\d{4}\S*?)(?=/|\s|$)")


class Run:
    """A run under its supervisor.

    Args:
        output: what it prints.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", run_dir: Path, output: Path) -> None:
        self.process = process
        self.run_dir = run_dir
        self.last_answer = 0.0
        self._output = output
        self._client = httpx.Client(timeout=10.0)

    @property
    def address(self) -> str:
        """host:port of its control plane."""
        return str(urlsplit(self._control()["url"]).netloc)

    @property
    def run_id(self) -> str:
        return str(self._control()["run_id"])

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """An object of this run's; {} while its control plane does not answer."""
        with suppress(httpx.HTTPError, OSError, ValueError, KeyError):
            answer = self._client.get(self._url(path))
            if answer.status_code == 200:
                self.last_answer = time.time()
                found: dict[str, Any] = answer.json()
                return found
        return {}

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask something of this run.

        Raises:
            RuntimeError: it is refused.
        """
        answer = self._client.post(self._url(path), json=dict(body))
        if not answer.is_success:
            raise RuntimeError(f"the control plane must take POST {path}, found {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def metrics(self) -> tuple[str, float]:
        """What Prometheus is given, and in how many seconds."""
        began = time.perf_counter()
        text = self._client.get(f"http://{self.address}/metrics").text
        return text, time.perf_counter() - began

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Poll until something is so: the run is another process, so there is no event to wait on.

        Raises:
            RuntimeError: the run ended, or it took too long.
        """
        end = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None:
                raise RuntimeError(f"the run must last until {what}, found that it ended: {self.told()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{what} must happen within {seconds:g} s, found {self.told()}")
            time.sleep(POLL_SECONDS)

    def follow(self, seconds: float) -> None:
        """Ask how it is until it has ended, which takes its control plane with it.

        Raises:
            RuntimeError: it failed, or took too long.
        """
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            self.get("/status")
            if time.monotonic() > end:
                raise RuntimeError(f"a run must end within {seconds:g} s, found {self.told()}")
            time.sleep(POLL_SECONDS)
        if self.process.returncode:
            raise RuntimeError(f"a run must end well, found exit code {self.process.returncode}: {self.told()}")

    def told(self) -> str:
        """The end of what it printed."""
        return self._output.read_text(errors="replace")[-1500:]

    def kill_worker(self, role: str) -> None:
        """SIGKILL to the process of one worker of a role.

        Raises:
            RuntimeError: there is none.
        """
        for each in self.processes():
            with suppress(psutil.Error):
                if " ".join(each.cmdline()).startswith(TITLES[role]):
                    each.kill()
                    return
        raise RuntimeError(f"a run must have a process {TITLES[role]}, found none below {self.process.pid}")

    def processes(self) -> list[psutil.Process]:
        """Every process below the supervisor."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def ray_targets(self) -> list[str]:
        """host:port of the metrics of its Ray; none before that began."""
        return sorted(target for session in self._sessions() for target in ray_targets(session))

    def _sessions(self) -> set[Path]:
        found = set()
        for each in self.processes():
            with suppress(psutil.Error):
                if match := _SESSION.search(" ".join(each.cmdline())):
                    found.add(Path(match.group(1)))
        return found

    def _control(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_dir / "control.json").read_text())
        return found

    def _url(self, path: str) -> str:
        control = self._control()
        return f"{control['url']}/v1/runs/{control['run_id']}{path}"


def ray_targets(session: Path) -> list[str]:
    """host:port of the metrics of a Ray, from the folder of its session.

    Ray's own discovery file says it where there is one. A Ray that a run starts for itself has no dashboard to write
    it; there the ports count that its node wrote.
    """
    with suppress(OSError, ValueError, LookupError):
        found: list[str] = json.loads((session / DISCOVERY_FILE).read_text())[0]["targets"]
        return found
    ports = [path.read_text().strip() for path in sorted(session.glob("metrics_export_port_*"))]
    return [f"127.0.0.1:{port}" for port in ports if port.isdigit() and port != "0"]


@contextmanager
def started(folder: Path, recipe: Path, settings: Sequence[str]) -> Iterator[Run]:
    """A run with a Ray of its own in `folder`; it is ended at the end, whatever happens.

    Args:
        settings: overrides of the recipe: key=value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = ["train", str(recipe), "--address", "local", "--run-dir", str(folder / "run")]
    words += [word for each in settings for word in ("--set", each)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = folder / "output.txt"
    with output.open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
    run = Run(process, folder / "run", output)
    try:
        yield run
    finally:
        run.close()
        _end(run)


def _end(run: Run) -> None:
    below = run.processes()
    if run.process.poll() is None:
        run.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(timeout=STOP_SECONDS)
    for each in {*below, *run.processes()}:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    if run.process.poll() is None:
        run.process.kill()
        run.process.wait()
