"""How much slower a run trains while it is watched: one page in a browser, one `lessrl top`, one scraper of /metrics.

    python -m tests.benchmarks.watchers RUN_DIR [--pairs 6] [--seconds 30] [--cores 2,3] [--json]

RUN_DIR is that of a run under way. Windows with and without watchers follow one another in it; a pair's ratio is that
of the medians of their step times, and the result is the median over the pairs. Beside it stands the CPU time that the
control plane's process takes, in cores: on a machine that others use, step times say little. Watchers have cores of
their own, as they have on their user's machine.
"""

import argparse
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import psutil

SCRAPE_SECONDS = 5.0
SETTLE_SECONDS = 5.0
_BROWSER = """
import sys, shutil
from playwright.sync_api import sync_playwright
flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    browser.new_page().goto(sys.argv[1])
    sys.stdin.read()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a window")
    parser.add_argument("--cores", default="", help="that watchers may use: 2,3")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cores = {int(each) for each in given.cores.split(",") if each}
    pairs = [_pair(given.run_dir, given.seconds, cores) for _ in range(given.pairs)]
    ratios = [watched.step_seconds / alone.step_seconds for alone, watched in pairs]
    found = {
        "slower_share": median(ratios) - 1,
        "ratios": ratios,
        "step_seconds_alone": median(alone.step_seconds for alone, _ in pairs),
        "step_seconds_watched": median(watched.step_seconds for _, watched in pairs),
        "control_cores_alone": median(alone.control_cores for alone, _ in pairs),
        "control_cores_watched": median(watched.control_cores for _, watched in pairs),
    }
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if given.json else f"{found['slower_share']:+.1%} a step\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Args:
    step_seconds: median.
    control_cores: CPU seconds a second of the process that serves the control plane.
    """

    step_seconds: float
    control_cores: float


def _pair(run_dir: Path, seconds: float, cores: set[int]) -> tuple[Window, Window]:
    """Alone, then watched."""
    time.sleep(SETTLE_SECONDS)
    alone = _window(run_dir, seconds)
    with _watched(run_dir, cores):
        time.sleep(SETTLE_SECONDS)
        return alone, _window(run_dir, seconds)


def _window(run_dir: Path, seconds: float) -> Window:
    """The next so many seconds."""
    file, control = run_dir / "metrics.jsonl", _control_process(run_dir)
    begins, cpu = file.stat().st_size, control.cpu_times()
    time.sleep(seconds)
    spent = control.cpu_times()
    with file.open("rb") as lines:
        lines.seek(begins)
        reports = [json.loads(line) for line in lines if line.endswith(b"}\n")]
    steps = [each["step_seconds"] for each in reports if each["kind"] == "step"]
    if not steps:
        raise SystemExit(f"a step must end within {seconds:g} s, none did ({run_dir}); give longer windows")
    used = spent.user + spent.system - cpu.user - cpu.system
    return Window(step_seconds=median(steps), control_cores=used / seconds)


def _control_process(run_dir: Path) -> psutil.Process:
    """Whoever listens where the run says that its control plane is."""
    port = int(json.loads((run_dir / "control.json").read_text())["url"].rsplit(":", 1)[1])
    listening = psutil.net_connections("tcp")
    [owner] = {each.pid for each in listening if each.status == psutil.CONN_LISTEN and each.laddr.port == port}
    return psutil.Process(owner)


@contextmanager
def _watched(run_dir: Path, cores: set[int]) -> Iterator[None]:
    whereabouts = json.loads((run_dir / "control.json").read_text())
    url, run_id = whereabouts["url"], whereabouts["run_id"]
    screen, terminal = pty.openpty()
    top = [sys.executable, "-m", "services.cli", "top", run_id, "--url", url]
    browser = [sys.executable, "-c", _BROWSER, f"{url}/#/runs/{run_id}"]
    ended = threading.Event()
    watchers = [
        subprocess.Popen(top, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}),
        subprocess.Popen(browser, stdin=subprocess.PIPE),
    ]
    threads = [
        threading.Thread(target=_scrape, args=(url, ended)),
        threading.Thread(target=_swallow, args=(screen,), daemon=True),
    ]
    if cores:
        for each in watchers:
            os.sched_setaffinity(each.pid, cores)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        threads[0].join()
        watchers[0].terminate()
        if watchers[1].stdin is not None:
            watchers[1].stdin.close()
        for each in watchers:
            each.wait(timeout=30)
        os.close(terminal)
        os.close(screen)


def _scrape(url: str, ended: threading.Event) -> None:
    while not ended.wait(SCRAPE_SECONDS):
        httpx.get(f"{url}/metrics", timeout=10).raise_for_status()


def _swallow(screen: int) -> None:
    """What a screen would show; a full terminal would hold `top` back."""
    with suppress(OSError):
        while os.read(screen, 65536):
            pass


if __name__ == "__main__":
    main()
