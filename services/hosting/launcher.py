"""Starts processes of runs for a control plane: each in a session of its own, so that it outlives the control plane."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from services.control.launcher import Launch
from services.run_dir import EXPORTS_DIR, LOGS_DIR
from services.run_lock import LOCK_FILE, is_held
from shaping.errors import UserError

RUN_TOKEN_VARIABLE = "LESSRL_RUN_TOKEN"
"""Environment variable with the token that a launched process shows to the control plane that launched it."""

LAUNCH_LOG = "launch.log"
START_SECONDS = 60.0


class ProcessLauncher:
    """RunLauncher on this host.

    Args:
        url: of the control plane, which launched processes report to; "" where they find it through Ray.
        address: Ray address that they use, or "local" or "house".
        token: that they show.
    """

    def __init__(self, *, url: str, address: str, token: str) -> None:
        self._url = url
        self._address = address
        self._token = token

    def launch(self, launch: Launch) -> None:
        """Start `services.hosting.launched`, which leaves this process's tree at once.

        Raises:
            UserError: it did not start; the log says more.
        """
        logs = launch.run_dir / LOGS_DIR
        logs.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "services.hosting.launched", str(launch.run_dir), "--address", self._address]
        words += ["--control", self._url] if self._url else []
        words += ["--checkpoint", launch.checkpoint] if launch.checkpoint else []
        words += [word for each in launch.overrides for word in ("--set", each)]
        environment = {**os.environ, RUN_TOKEN_VARIABLE: self._token}
        with (logs / LAUNCH_LOG).open("ab") as log:
            started = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            code = started.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            code = started.wait()
        if code != 0:
            raise UserError(
                f"the process of {launch.run_id} must start, it ended with {code} "
                f"({launch.run_dir.name}/{LOGS_DIR}/{LAUNCH_LOG})"
            )

    def is_alive(self, run_dir: Path) -> bool | None:
        """Whether a process of this host holds the run's directory; None where the directory is not to be seen here."""
        return is_held(run_dir)

    def kill(self, run_dir: Path) -> None:
        """End the process that holds the directory, its supervisor first, and all that they started."""
        if not self.is_alive(run_dir):
            return
        with suppress(psutil.Error, OSError, ValueError, IndexError):
            holder = psutil.Process(int((run_dir / LOCK_FILE).read_text(encoding="utf-8").split()[0]))
            tree = [holder, *holder.children(recursive=True)]
            parent = holder.parent()
            # A supervisor would begin the run again; it has the very command line of its child.
            if parent is not None and parent.cmdline() == holder.cmdline():
                tree = [parent, *parent.children(recursive=True)]
            for each in tree:
                with suppress(psutil.NoSuchProcess):
                    each.kill()


class ProcessExporter:
    """Exporter that has `lessrl export` do it, as its own process: torch stays out of the control plane."""

    def export(self, run_dir: Path, checkpoint: str, *, timeout_seconds: float) -> str:
        """Write `exports/<checkpoint>`, or find it there.

        Raises:
            UserError: it cannot be written; in the words of the command.
            SubprocessError: it took too long.
        """
        out = run_dir / EXPORTS_DIR / checkpoint
        aside = out.with_name(f".{checkpoint}.part")
        if not out.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            out.parent.mkdir(exist_ok=True)
            words = [sys.executable, "-m", "services.cli", "export", str(run_dir), "--out", str(aside)]
            done = subprocess.run(
                [*words, "--from", checkpoint], capture_output=True, text=True, timeout=timeout_seconds, check=False
            )
            if done.returncode != 0:
                said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                raise UserError(said[-1].removeprefix("lessrl: "))
            aside.rename(out)
        return str(out.relative_to(run_dir))
