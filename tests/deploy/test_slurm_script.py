"""deploy/slurm/run.sbatch as it is written: what Slurm is asked for, what is refused, when a job is requeued."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stack_run import ROOT

SCRIPT = ROOT / "deploy" / "slurm" / "run.sbatch"


PROGRAMS = {
    "lessrl": 'echo "called lessrl $*" >&2; eval "$LESSRL_DOES"',
    "python": 'exit "${PYTHON_CODE:-0}"',
    "ray": "exit 1",
    "srun": "cat >/dev/null",
    "scontrol": 'echo "called scontrol $*" >&2',
    "ip": 'case "$*" in *"dev lo") echo "1: lo    inet 127.0.0.1/8 scope host lo";; *) exit 1;; esac',
}
PREEMPTED = "trap 'exit {code}' TERM; kill -TERM $PPID; while :; do sleep 0.02; done"
"""A run to which the script passes on a signal that it gets."""


def run_script(
    tmp_path: Path, *words: str, script: Path = SCRIPT, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """The script as Slurm would start it on one node; its programs say that they were called, and `lessrl` does what
    LESSRL_DOES says.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "4", "LESSRL_TEMP": "/t"}
    return subprocess.run(
        ["bash", str(script), *words],
        env={"PATH": f"{programs}:{os.environ['PATH']}"} | job | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def asked() -> dict[str, str]:
    """Options of the script's #SBATCH lines, which stand before its first command."""
    head = SCRIPT.read_text().split("\nset -")[0]
    words = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", head, re.MULTILINE)
    assert len(words) == head.count("\n#SBATCH"), "a line that Slurm would pass over"
    return dict(words)


def test_shellcheck_finds_nothing() -> None:
    checker = Path(sys.executable).parent / "shellcheck"
    found = str(checker) if checker.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed here; it comes with the development requirements")
    done = subprocess.run([found, str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""


def test_slurm_is_asked_for_whole_nodes_a_signal_in_time_and_another_start() -> None:
    options = asked()
    assert {"exclusive", "requeue"} <= set(options)
    assert options["ntasks-per-node"] == "1", "one Ray on each node"
    # To the script alone (B): a signal to all of the job would end Ray before the checkpoint.
    assert options["signal"].startswith("B:TERM@")
    assert int(options["signal"].partition("@")[2]) >= 300
    assert options["open-mode"] == "append", "what the first start printed stays"


def test_the_script_ends_its_own_ray_only() -> None:
    commands = [line for line in SCRIPT.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not re.search(r"ray stop|symmetric-run|pkill|killall", "\n".join(commands))


def test_no_secret_is_a_word_of_a_command() -> None:
    commands = [line for line in SCRIPT.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in commands if "RAY_AUTH_TOKEN" in line and not line.startswith(("RAY_AUTH", "export"))] == []


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        ((), {}, "a recipe and a run directory must be given, found 0 words"),
        (("recipe.yaml",), {}, "a recipe and a run directory must be given, found 1 words"),
        (("recipe.yaml", "run"), {"LESSRL_TEMP": "/" + "t" * 40}, "must be a path of at most 38 characters"),
        (
            ("recipe.yaml", "run"),
            {"SLURM_JOB_NUM_NODES": "2", "LESSRL_INTERFACE": "lo"},
            "other nodes must reach the head, got its loopback 127.0.0.1; set LESSRL_INTERFACE",
        ),
        (
            ("recipe.yaml", "run"),
            {"SLURM_JOB_NUM_NODES": "2", "LESSRL_INTERFACE": "none0"},
            "the fabric must have an IPv4 address, found none; set LESSRL_INTERFACE",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_ray_starts(
    tmp_path: Path, words: tuple[str, ...], environment: dict[str, str], told: str
) -> None:
    done = run_script(tmp_path, *words, **environment)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "called lessrl" not in done.stderr


def test_programs_that_are_missing_are_named(tmp_path: Path) -> None:
    done = run_script(tmp_path, "recipe.yaml", "run", PATH="/usr/bin:/bin")
    assert done.returncode == 2, done.stderr
    assert "lessrl, ray and python must be on PATH, found no lessrl; set LESSRL_BIN" in done.stderr


def test_one_program_that_is_there_does_not_stand_for_the_others(tmp_path: Path) -> None:
    some = tmp_path / "some"
    some.mkdir()
    for name in ("lessrl", "python"):
        (some / name).symlink_to("/bin/true")
    done = run_script(tmp_path, "recipe.yaml", "run", PATH=f"{some}:/usr/bin:/bin")
    assert done.returncode == 2, done.stderr
    assert "found no ray; set LESSRL_BIN" in done.stderr


@pytest.mark.parametrize(
    ("does", "code", "is_requeued"),
    [
        ("exit 0", 0, False),
        ("exit 1", 1, False),
        # Cancelled by its user, over the API: nobody wants it back.
        ("exit 130", 130, False),
        ("exit 143", 143, True),
        (PREEMPTED.format(code=143), 143, True),
        # It was told to end before there was anything to save.
        (PREEMPTED.format(code=130), 130, True),
        # It ended just then.
        (PREEMPTED.format(code=0), 0, False),
    ],
)
def test_a_job_is_requeued_when_the_system_ended_its_run_and_never_otherwise(
    tmp_path: Path, does: str, code: int, is_requeued: bool
) -> None:
    done = run_script(tmp_path, "recipe.yaml", "run", LESSRL_DOES=does)
    assert done.returncode == code, done.stderr
    assert ("called scontrol requeue 7" in done.stderr) is is_requeued


def test_a_signal_that_comes_before_the_runs_process_is_known_reaches_it(tmp_path: Path) -> None:
    known = "    driver=$!\n"
    text = SCRIPT.read_text()
    assert text.count(known) == 1
    held = tmp_path / "run.sbatch"
    held.write_text(text.replace(known, f'    while [ "$preempted" = 0 ]; do sleep 0.02; done\n{known}'))
    done = run_script(tmp_path, "recipe.yaml", "run", script=held, LESSRL_DOES=PREEMPTED.format(code=143))
    assert done.returncode == 143, done.stderr
    assert "called scontrol requeue 7" in done.stderr


def test_a_run_begins_with_its_options_and_goes_on_without_them(tmp_path: Path) -> None:
    words = ("recipe.yaml", "run", "--set", "run.steps=3")
    begun = run_script(tmp_path, *words)
    assert "called lessrl train recipe.yaml --run-dir run --address 127.0.0.1:20007 --set run.steps=3\n" in begun.stderr
    shutil.rmtree(tmp_path / "programs")
    (tmp_path / "run" / "checkpoints" / "step-000002").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").touch()
    gone_on = run_script(tmp_path, *words, SLURM_RESTART_COUNT="1")
    # What was set stands in the recipe of the run's directory.
    assert "called lessrl resume run --address 127.0.0.1:20007\n" in gone_on.stderr


# As a shell completes the name of a directory that is there.
@pytest.mark.parametrize("run_dir", ["run", "run/"])
def test_a_run_that_ended_before_its_first_checkpoint_begins_again_and_keeps_what_there_was(
    tmp_path: Path, run_dir: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("of the first start")
    done = run_script(tmp_path, "recipe.yaml", run_dir, SLURM_RESTART_COUNT="2")
    assert "called lessrl train recipe.yaml --run-dir run " in done.stderr
    assert (tmp_path / "run.2" / "recipe.yaml").read_text() == "of the first start"
    assert not (tmp_path / "run").exists()


def test_no_run_begins_on_a_part_of_the_nodes(tmp_path: Path) -> None:
    done = run_script(tmp_path, "recipe.yaml", "run", PYTHON_CODE="1")
    assert done.returncode == 1
    assert "called" not in done.stderr
