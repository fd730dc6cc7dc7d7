"""Keeps a run alive: the run works in a child process, and when that dies another one goes on from the last checkpoint.

The child is forked before anything is started, so that it costs no second start of Python. It has a process group of
its own: Ctrl-C reaches this process alone, which passes it on once. What a child leaves behind is ended before the next
one begins: an orphan may hold the memory of a GPU.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import psutil

from services.hosting.driver import drive, is_ray_job
from shaping.components import import_module_of

EXIT_RESUMABLE = 75
"""Exit code of a run that failed in a way that another process may survive (EX_TEMPFAIL)."""

EXIT_CANCELLED = 130

# Said by a child whose Python has ended: a library may end the process by itself, with any exit code, as Ray does when
# its head is gone.
_ENDED = b"\x04"

FORWARDED = (signal.SIGINT, signal.SIGTERM)
MAX_END_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One process of a run.

    Args:
        number: 0 for the first, which begins the run or resumes it as its user asked.
        cause: why the process before it ended; "" for the first.
        is_last: whether no other process will follow.
        tell: says, in the process of a run that is about to exit with EXIT_RESUMABLE, why.
    """

    number: int
    cause: str
    is_last: bool
    tell: Callable[[str], None]


def supervised(prepared: Any) -> int:
    """Run a `services.run_setup.PreparedRun` to its end; inside a Ray job, outside the job's process tree.

    Returns:
        Its exit code, see `services.training.train`.
    """

    def run(attempt: Attempt) -> int:
        # Imports Ray, which takes seconds: in the process that needs it.
        code: int = import_module_of("services", "training").train(prepared, attempt)
        return code

    keep_alive = prepared.options.keep_alive

    def work() -> int:
        return supervise(run, max_restarts=prepared.recipe.run.max_restarts, keep_alive=keep_alive)

    return drive(work, keep_alive=keep_alive) if is_ray_job() else work()


def supervise(run: Callable[[Attempt], int], *, max_restarts: int, keep_alive: bool = False) -> int:
    """Run in a child process, and again after it died, up to `max_restarts` times.

    Args:
        run: returns an exit code; called in the child, where this function then returns that code too.
        max_restarts: with 0 there is nothing to supervise, and the run works in this process.
        keep_alive: whether a child goes on when this process is killed; otherwise it is interrupted, which cancels it.
    Returns:
        The exit code of the run; 1 where it died once too often, 130 where it died after it had been told to end.
    """
    if max_restarts == 0:
        return run(Attempt(number=0, cause="", is_last=True, tell=_tell_nobody))
    # Orphans of a child become children of this process, so that none is lost from sight.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    cause = ""
    for number in range(max_restarts + 1):
        sys.stdout.flush()
        sys.stderr.flush()
        reader, writer = os.pipe()
        parent = os.getpid()
        # Held back until both sides know what to do with them.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        child = os.fork()
        if child == 0:
            os.close(reader)
            _begin_as_child(parent, keep_alive=keep_alive)
            is_last = number == max_restarts
            try:
                return run(Attempt(number=number, cause=cause, is_last=is_last, tell=partial(_tell, writer)))
            finally:
                # Nobody listens where the supervisor itself was killed.
                with contextlib.suppress(BrokenPipeError):
                    os.write(writer, _ENDED)
        os.close(writer)
        code, was_told_to_end = _wait(child)
        _end_descendants()
        cause, has_ended = _told(reader)
        cause = cause or f"its process ended by {_name_of(code)}"
        if has_ended and code >= 0 and code != EXIT_RESUMABLE:
            break
        if was_told_to_end:
            sys.stderr.write(f"lessrl: the run was told to end, and died: {cause}\n")
            code = EXIT_CANCELLED
            break
        left = max_restarts - number
        what = f"goes on from its last checkpoint, {left - 1} restarts are left" if left else "no restart is left"
        sys.stderr.write(f"lessrl: the run died and {what} (run.max_restarts): {cause}\n")
    else:
        code = 1
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return code


def _begin_as_child(parent: int, *, keep_alive: bool) -> None:
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    if not keep_alive:
        # Should the supervisor itself be killed, the run is cancelled with a checkpoint instead of going on unseen.
        interrupt_with_parent(parent)


def interrupt_with_parent(parent: int) -> None:
    """Have this process interrupted when its parent is gone, however that ends.

    Args:
        parent: its process id, as the parent knows it: it may be gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGINT)


def _wait(child: int) -> tuple[int, bool]:
    """Exit code of the child, negative for the signal that ended it, and whether it was told to end.

    Passes on what ends a run; what comes after the child has ended is held back for the next one.
    """
    passed_on: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        passed_on.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        for number, handler in before.items():
            signal.signal(number, handler)
    return os.waitstatus_to_exitcode(status), bool(passed_on)


def _end_descendants() -> None:
    """Kill what a child left behind; one that even a kill does not end in time is not waited for."""
    ends_at = time.monotonic() + MAX_END_SECONDS
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < ends_at:
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        # Whoever ends hands its own children over: look again.
        psutil.wait_procs(left, timeout=1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value)


def _tell_nobody(text: str) -> None:
    """The last process of a run never exits to go on."""
    raise AssertionError(text)


def _tell(writer: int, text: str) -> None:
    os.write(writer, text.encode("utf-8", "replace")[:4096])


def _told(reader: int) -> tuple[str, bool]:
    """What the child said, and whether it came to an end of its own, well or not."""
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    return text.removesuffix(_ENDED).decode("utf-8", "replace").strip(), text.endswith(_ENDED)


def _name_of(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name
