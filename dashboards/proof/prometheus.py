"""A Prometheus of one's own in the foreground, and what it answers. Knows no dashboard."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 30.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 30.0
RAY_TARGETS = "ray.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples of one set of labels.

    Args:
        times: seconds since the epoch, rising.
        values: as many; NaN and infinities are as Prometheus gave them.
    """

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


class QueryRefused(ValueError):
    """Prometheus could not answer; the message is its own."""


class Prometheus:
    """A Prometheus that answers at a port of this machine."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=ANSWER_SECONDS)

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()

    def is_ready(self) -> bool:
        """Whether it can be asked."""
        with suppress(httpx.HTTPError):
            return self._client.get("/-/ready").status_code == 200
        return False

    def range(self, expression: str, *, start: float, end: float, step: float) -> tuple[Series, ...]:
        """Values over a time.

        Raises:
            QueryRefused: Prometheus could not answer.
        """
        data = self._ask("/api/v1/query_range", query=expression, start=start, end=end, step=step)
        if data["resultType"] != "matrix":
            raise QueryRefused(f"a query over a time must give series, found {data['resultType']}: {expression}")
        return tuple(_series(each["metric"], each["values"]) for each in data["result"])

    def at(self, expression: str, when: float) -> tuple[Series, ...]:
        """Values at one time.

        Raises:
            QueryRefused: Prometheus could not answer, or the answer is no vector.
        """
        data = self._ask("/api/v1/query", query=expression, time=when)
        if data["resultType"] != "vector":
            raise QueryRefused(f"a query must give series, found {data['resultType']}: {expression}")
        return tuple(_series(each["metric"], [each["value"]]) for each in data["result"])

    def label_values(self, selector: str, label: str, *, start: float, end: float) -> list[str]:
        """Values of a label of the series that a selector chooses, sorted.

        Raises:
            QueryRefused: Prometheus could not answer.
        """
        parameters: dict[str, str | float] = {"match[]": selector, "start": start, "end": end}
        found: list[str] = self._ask(f"/api/v1/label/{label}/values", **parameters)
        return sorted(found)

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes now, as it says so itself."""
        found: list[dict[str, Any]] = self._ask("/api/v1/targets", state="active")["activeTargets"]
        return found

    def _ask(self, path: str, **parameters: str | float) -> Any:
        try:
            answer = self._client.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise QueryRefused(f"Prometheus must answer {path}, found {error!r}") from error
        body = answer.json()
        if body["status"] != "success":
            raise QueryRefused(f"{body['errorType']}: {body['error']}")
        return body["data"]


def require_program() -> str:
    """Path of Prometheus on this machine.

    Raises:
        OSError: it is not installed.
    """
    path = shutil.which("prometheus")
    if path is None:
        raise OSError("the proof needs Prometheus, and there is none on the PATH; Debian's package is prometheus")
    return path


@contextmanager
def started(
    folder: Path, *, targets: Mapping[str, str], scrape: int, rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """Prometheus over a folder of its own, until the end of the block.

    Args:
        targets: host:port by name of the job; jobs of Ray are found in the folder's file ray.json.
        scrape: interval in seconds.
    Raises:
        OSError: Prometheus is not installed.
        RuntimeError: it did not start.
    """
    path = require_program()
    folder.mkdir(parents=True, exist_ok=True)
    # YAML reads JSON.
    (folder / "prometheus.yml").write_text(json.dumps(_config(folder, targets, scrape, rules)))
    address = f"127.0.0.1:{_free_port()}"
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    words += [f"--web.listen-address={address}", "--log.level=warn"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([path, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    prometheus = Prometheus(f"http://{address}")
    try:
        _await(process, prometheus, folder / "prometheus.log")
        yield prometheus
    finally:
        prometheus.close()
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tell_ray_targets(folder: Path, addresses: Sequence[str]) -> None:
    """Say what the job "ray" scrapes from now on."""
    text = json.dumps([{"targets": list(addresses), "labels": {"job": "ray"}}])
    aside = folder / f".{RAY_TARGETS}"
    aside.write_text(text)
    aside.replace(folder / RAY_TARGETS)


def _config(folder: Path, targets: Mapping[str, str], scrape: int, rules: Sequence[Path]) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = [
        {"job_name": name, "static_configs": [{"targets": [address]}]} for name, address in targets.items()
    ]
    watched = {"files": [str(folder / RAY_TARGETS)], "refresh_interval": "1s"}
    jobs.append({"job_name": "ray", "file_sd_configs": [watched]})
    return {
        "global": {"scrape_interval": f"{scrape}s", "scrape_timeout": f"{scrape}s", "evaluation_interval": "5s"},
        "rule_files": [str(each) for each in rules],
        "scrape_configs": jobs,
    }


def _await(process: "subprocess.Popen[bytes]", prometheus: Prometheus, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not prometheus.is_ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"Prometheus must start within {START_SECONDS:g} s, found {log.read_text()[-600:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _series(labels: dict[str, str], samples: list[list[Any]]) -> Series:
    times, values = zip(*samples, strict=True)
    return Series(labels=labels, times=times, values=tuple(map(float, values)))
