"""Commands and who answers them: nobody, somebody who asks for a token, and a user who presses Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from lessrl_shell import Shell
from run_view_builders import write_log
from served_plane import ObedientRun, serve_plane, serve_run

from services.api.access import Access
from services.api.auth import Role, Token

TOKEN = "a-secret-of-mine-0123456789"
ROOT = Path(__file__).parents[3]


def test_nobody_there_ends_with_code_3(lessrl: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    for words in (("list",), ("status",), ("pause",), ("wait",), ("top", "--once"), ("config", "get"), ("workers",)):
        said = lessrl.refused(3, *words, "--url", f"http://127.0.0.1:{port}")
        assert f"http://127.0.0.1:{port} (--url)" in said


def test_token_is_needed_sent_and_never_said(lessrl: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(tokens=(Token.of("me", Role.READ, TOKEN),))
    with serve_plane(tmp_path, access=access) as served, serve_run(served, tmp_path / "run"):
        monkeypatch.setenv("LESSRL_URL", served.url)
        assert "set LESSRL_TOKEN" in lessrl.refused(2, "list")
        monkeypatch.setenv("LESSRL_TOKEN", TOKEN)
        texts = []
        for words in (("list",), ("status", "--json"), ("config", "get"), ("events",), ("doctor",), ("version",)):
            said = lessrl(*words)
            assert said.code in (0, 1), said
            texts.append(said.out + said.err)
        # A token that may only read.
        texts.append(lessrl.refused(2, "pause"))
        monkeypatch.setenv("LESSRL_TOKEN", f"{TOKEN}-not")
        texts.append(lessrl.refused(2, "list"))
        assert not any(TOKEN in text for text in texts)


@pytest.mark.parametrize("words", [("events", "-f"), ("logs", "-f"), ("top", "--json"), ("wait",)])
def test_interrupt_leaves_the_run_alone(run: ObedientRun, lessrl: Shell, words: tuple[str, ...]) -> None:
    write_log(run.run_dir, "rollout-0", "2023-11-14 22:13:20,000 INFO x: hello\n")
    is_wait = words == ("wait",)
    # A command that waits says nothing: one at a terminal says how far the run is, beside its output.
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "services.cli", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, text=True) as process:
        assert process.stdout is not None
        _ = os.read(reader, 10) if is_wait else process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    os.close(terminal)
    said = _drained(reader)
    # A wait that was broken off is not a wait that was met.
    assert process.returncode == (5 if is_wait else 0), said
    assert "Traceback" not in said
    assert ("stopped waiting; the run goes on" in said) == is_wait
    assert is_wait or "left; the run goes on" in said
    assert lessrl("wait", "--until", "running", "--json").data["status"]["state"] == "running"


def _drained(reader: int) -> str:
    """All that a terminal got whose other end is closed."""
    parts = []
    with suppress(OSError):
        while part := os.read(reader, 65536):
            parts.append(part)
    os.close(reader)
    return b"".join(parts).decode()


def test_stream_that_is_followed_ends_with_the_run(run: ObedientRun, lessrl: Shell) -> None:
    run.end("completed")
    assert '"completed"' in lessrl("events", "-f", "--json").out


@pytest.mark.usefixtures("run")
def test_shutdown_ends_nothing_that_cannot_be_ended(lessrl: Shell) -> None:
    said = lessrl("shutdown")
    assert said.code in (2, 4) and said.err.startswith("lessrl: ")


@pytest.mark.usefixtures("run")
def test_no_color_stands_anywhere_and_leaves_the_environment(lessrl: Shell) -> None:
    plain = lessrl("workers").out
    assert lessrl("--no-color", "workers").out == lessrl("workers", "list", "--no-color").out == plain
    assert "NO_COLOR" not in os.environ
