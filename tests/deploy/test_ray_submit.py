"""deploy/ray: what a job takes along, what is refused before a cluster is asked, and with which code it ends."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stack_run import ROOT

SCRIPT, RUNTIME_ENV = ROOT / "deploy" / "ray" / "submit.sh", ROOT / "deploy" / "ray" / "runtime_env.yaml"

PROGRAMS = {
    "ray": 'printf "%s\\n" "$*" >>calls.txt; case "$*" in *--no-wait*) exit "${SUBMIT_CODE:-0}";; esac',
    # Without a program of its own it makes JSON; with one on standard input it is asked for the job's end.
    "python": f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi; cat >/dev/null; echo "${{JOB_CODE:-0}}"',
}


def run_script(folder: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The script with a `ray` that only writes down what it is called with."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "LESSRL_"))}
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        env=inherited | {"PATH": f"{programs}:{os.environ['PATH']}", "LESSRL_JOB": "mine"} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").touch()
    return tmp_path


def calls(folder: Path) -> list[str]:
    path = folder / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_shellcheck_finds_nothing() -> None:
    checker = Path(sys.executable).parent / "shellcheck"
    found = str(checker) if checker.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed here; it comes with the development requirements")
    done = subprocess.run([found, str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""


def test_a_job_takes_along_no_data_no_runs_and_no_secret() -> None:
    runtime_env = yaml.safe_load(RUNTIME_ENV.read_text())
    assert {"/.git", "/.venv", "/runs", "/data"} <= set(runtime_env["excludes"])
    assert not {"data", "runs", "/services", "/deploy"} & set(runtime_env["excludes"]), "a package is among them"
    assert not {"pip", "uv", "conda"} & set(runtime_env), "torch and vLLM belong into the image"
    assert not [name for name in runtime_env["env_vars"] if "TOKEN" in name and name != "TOKENIZERS_PARALLELISM"]


def test_a_job_has_an_id_metadata_and_a_cpu_of_its_own(folder: Path) -> None:
    done = run_script(folder, "recipe.yaml", "/shared/runs", "--set", "run.steps=3", LESSRL_BIN="/opt/lessrl/bin")
    assert done.returncode == 0, done.stderr
    submitted, followed = calls(folder)
    metadata = json.dumps({"recipe": "recipe.yaml", "runs": "/shared/runs"})
    assert submitted == (
        f"job submit --no-wait --submission-id mine --working-dir . --runtime-env {RUNTIME_ENV} --metadata-json "
        f"{metadata} --entrypoint-num-cpus 1 -- /opt/lessrl/bin/lessrl train recipe.yaml --runs /shared/runs "
        "--set run.steps=3"
    )
    assert followed == "job logs --follow mine"


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_script_ends_with_the_code_of_the_run(folder: Path, code: int) -> None:
    done = run_script(folder, "recipe.yaml", "/shared/runs", JOB_CODE=str(code))
    assert done.returncode == code
    assert f"job mine ended with {code}" in done.stderr


def test_without_waiting_it_ends_once_the_job_is_taken(folder: Path) -> None:
    done = run_script(folder, "--no-wait", "recipe.yaml", "/shared/runs", JOB_CODE="1")
    assert done.returncode == 0
    assert len(calls(folder)) == 1


def test_a_cluster_that_takes_no_job_is_not_a_run_that_failed(folder: Path) -> None:
    done = run_script(folder, "recipe.yaml", "/shared/runs", SUBMIT_CODE="1")
    assert done.returncode == 3
    assert "no job was begun at http://127.0.0.1:8265" in done.stderr
    assert len(calls(folder)) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "a recipe and a folder of runs must be given, found 0 words"),
        (("--no-wait", "recipe.yaml"), "a recipe and a folder of runs must be given, found 1 words"),
        (("none.yaml", "/shared/runs"), "a recipe must be a file, found none: none.yaml"),
        (("../outside.yaml", "/shared/runs"), "a recipe must lie in the current directory"),
        (("recipe.yaml", "runs"), "the folder of runs must be an absolute path that every node sees, got runs"),
    ],
)
def test_what_cannot_work_is_refused_before_the_cluster_is_asked(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    (folder / "inner").mkdir()
    (folder / "outside.yaml").touch()
    (folder / "inner" / "recipe.yaml").touch()
    done = run_script(folder / "inner", *words)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert calls(folder / "inner") == []
