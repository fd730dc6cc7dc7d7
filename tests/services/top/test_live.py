"""`lessrl top` at a terminal: keys reach the run, and leaving leaves it alone."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from served_plane import serve_plane, serve_run

from services.reports import IntentKind

ROOT = Path(__file__).parents[3]
SILENCE_SECONDS = 30.0


class Terminal:
    """A terminal of 100 x 30 with a program in it."""

    def __init__(self, *words: str, **environment: str) -> None:
        self._own, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *words],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment},
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        self._text = ""

    def read_until(self, pattern: str) -> None:
        """Until this is on the screen, in what has come since the last time."""
        while not (found := re.search(pattern, self._text)):
            waiting, _, _ = select.select([self._own], [], [], SILENCE_SECONDS)
            assert waiting, f"{pattern} did not come; the screen has {self._text[-3000:]!r}"
            self._text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self._own, 65536).decode("utf-8", "replace"))
        self._text = self._text[found.end() :]

    def press(self, keys: str) -> None:
        os.write(self._own, keys.encode())

    def close(self) -> int:
        """What the program ended with; its terminal is as it was before."""
        try:
            while os.read(self._own, 65536):
                pass
        except OSError:
            pass  # the other end is closed
        os.close(self._own)
        return self.process.wait(SILENCE_SECONDS)


@pytest.mark.parametrize("leave", ["q", "Ctrl-C"])
def test_keys_pause_and_resume_after_a_yes_and_leaving_leaves_the_run_alone(tmp_path: Path, leave: str) -> None:
    with serve_plane(tmp_path) as served, serve_run(served, tmp_path / "run") as run:
        terminal = Terminal("top", LESSRL_URL=served.url)
        terminal.read_until("tiny  running")
        terminal.press("r")
        terminal.read_until("resume: the run's state does not allow it")
        terminal.press("p")
        terminal.read_until("pause this run")
        terminal.press("n")
        terminal.read_until("pause: left as it is")
        terminal.press("p")
        terminal.read_until("pause this run")
        terminal.press("y")
        terminal.read_until("tiny  paused")
        terminal.press("r")
        terminal.read_until("resume this run")
        terminal.press("y")
        terminal.read_until("tiny  running")
        terminal.press("q") if leave == "q" else terminal.process.send_signal(signal.SIGINT)
        assert terminal.close() == 0
        assert [intent.kind for intent in run.told] == [IntentKind.RUN, IntentKind.PAUSE, IntentKind.RUN]
        control = served.plane.run(run.run_id)
        assert control is not None and control.life.state == "running"
