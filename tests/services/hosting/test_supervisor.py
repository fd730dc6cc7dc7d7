"""The process that keeps a run alive, with real children that die."""

import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

BEGIN = """
import os, signal, sys, time
from services.hosting.supervisor import EXIT_RESUMABLE, supervise
"""


def begin(body: str, *, max_restarts: int = 2) -> subprocess.Popen[str]:
    """A supervisor whose children run `body` as the function `run(attempt)`."""
    function = "def run(attempt):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    script = f"{BEGIN}\n{function}\nsys.exit(supervise(run, max_restarts={max_restarts}))"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_run_that_ends_by_itself_is_not_run_again(code: int) -> None:
    assert finish(begin(f"print('ran'); return {code}")) == (code, "ran\n", "")


def test_a_killed_run_goes_on_in_another_process_that_knows_why() -> None:
    body = """
        print(attempt.number, repr(attempt.cause), attempt.is_last, flush=True)
        if attempt.number < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0
    """
    code, out, err = finish(begin(body))
    assert code == 0
    assert out.splitlines() == [
        "0 '' False",
        "1 'its process ended by SIGKILL' False",
        "2 'its process ended by SIGKILL' True",
    ]
    assert err.splitlines() == [
        "lessrl: the run died and goes on from its last checkpoint, 1 restarts are left (run.max_restarts): "
        "its process ended by SIGKILL",
        "lessrl: the run died and goes on from its last checkpoint, 0 restarts are left (run.max_restarts): "
        "its process ended by SIGKILL",
    ]


def test_a_run_whose_process_a_library_ended_goes_on() -> None:
    code, out, err = finish(begin("print(attempt.cause, flush=True); attempt.number or os._exit(1); return 0"))
    assert (code, out.splitlines()) == (0, ["", "its process ended by exit code 1"])
    assert "goes on from its last checkpoint" in err


def test_a_run_that_raises_is_not_run_again() -> None:
    code, out, err = finish(begin("print('ran', flush=True); raise ValueError('a bug')"))
    assert (code, out) == (1, "ran\n")
    assert "ValueError: a bug" in err


def test_a_run_says_why_it_wants_to_go_on() -> None:
    body = """
        if attempt.number == 0:
            attempt.tell("learner: rank 1 ended")
            return EXIT_RESUMABLE
        print(attempt.cause)
        return 0
    """
    code, out, _ = finish(begin(body))
    assert (code, out) == (0, "learner: rank 1 ended\n")


def test_the_budget_of_restarts_ends() -> None:
    code, out, err = finish(begin("print(attempt.number, flush=True); os.kill(os.getpid(), signal.SIGSEGV)"))
    assert (code, out) == (1, "0\n1\n2\n")
    assert err.splitlines()[-1] == (
        "lessrl: the run died and no restart is left (run.max_restarts): its process ended by SIGSEGV"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_a_run_is_passed_on_once(number: signal.Signals) -> None:
    # Held back from before it says that it is ready, so that none can be missed or counted late.
    body = f"""
        signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])
        print("ready", flush=True)
        signal.sigwait([{int(number)}])
        print(1 + ({int(number)} in signal.sigpending()), flush=True)
        return 130
    """
    process = begin(body)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert finish(process)[:2] == (130, "1\n")


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "return EXIT_RESUMABLE"])
def test_a_run_that_was_told_to_end_and_dies_of_it_is_not_run_again(end: str) -> None:
    body = f"""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print(attempt.number, flush=True)
        signal.sigwait([signal.SIGTERM])
        {end}
    """
    process = begin(body)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err.startswith("lessrl: the run was told to end, and died: its process ended by ")


def test_a_run_does_not_outlive_its_supervisor() -> None:
    body = """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        print("ready", flush=True)
        signal.sigwait([signal.SIGINT])
        print("told to end", flush=True)
    """
    process = begin(body)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    assert process.stdout.readline() == "told to end\n"
    process.communicate(timeout=60)


LINGER = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize(
    ("end", "told"), [("os.kill(os.getpid(), signal.SIGKILL)", "[]"), ("return EXIT_RESUMABLE", "[]"), ("return 0", "")]
)
def test_what_a_run_leaves_behind_is_ended_before_the_next_begins(end: str, told: str) -> None:
    # In sessions of their own, as the processes of a Ray are; the second is an orphan once the first is killed.
    body = f"""
        import psutil, subprocess
        if attempt.number == 0:
            left = subprocess.Popen([sys.executable, "-c", {LINGER!r}], stdout=subprocess.PIPE, start_new_session=True)
            pids = left.stdout.readline().decode().strip()
            attempt.tell(pids)
            print(pids, flush=True)
            {end}
        print([each.pid for each in psutil.Process(os.getppid()).children(True) if each.pid != os.getpid()])
        return 0
    """
    code, out, _ = finish(begin(body))
    pids, *after = out.splitlines()
    assert code == 0
    assert after == ([told] if told else [])
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.split())
