"""Keeps a run alive: the run works in a child process, and when that dies another one goes on from the last checkpoint.

The child is forked before anything is started, so that it costs no second start of Python. It has a process group of
its own: Ctrl-C reaches this process alone, which passes it on once.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

EXIT_RESUMABLE = 75
"""Exit code of a run that failed in a way that another process may survive (EX_TEMPFAIL)."""

FORWARDED = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1


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


def supervise(run: Callable[[Attempt], int], *, max_restarts: int) -> int:
    """Run in a child process, and again after it died, up to `max_restarts` times.

    Args:
        run: returns an exit code; called in the child, where this function then returns that code too.
        max_restarts: with 0 there is nothing to supervise, and the run works in this process.
    Returns:
        The exit code of the run; 1 where it died once too often.
    """
    if max_restarts == 0:
        return run(Attempt(number=0, cause="", is_last=True, tell=_tell_nobody))
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
            _begin_as_child(parent)
            is_last = number == max_restarts
            return run(Attempt(number=number, cause=cause, is_last=is_last, tell=partial(_tell, writer)))
        os.close(writer)
        code = _wait(child)
        cause = _told(reader) or f"its process ended by {_name_of(code)}"
        if code >= 0 and code != EXIT_RESUMABLE:
            return code
        left = max_restarts - number
        what = f"goes on from its last checkpoint, {left - 1} restarts are left" if left else "no restart is left"
        sys.stderr.write(f"lessrl: the run died and {what} (run.max_restarts): {cause}\n")
    return 1


def _begin_as_child(parent: int) -> None:
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    # Should the supervisor itself be killed, the run is cancelled politely instead of going on unseen.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _wait(child: int) -> int:
    """Exit code of the child, negative for the signal that ended it; passes on what ends a run."""
    before = {number: signal.signal(number, lambda sent, _: _forward(child, sent)) for number in FORWARDED}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return os.waitstatus_to_exitcode(status)


def _forward(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        return


def _tell_nobody(text: str) -> None:
    """The last process of a run never exits to go on."""
    raise AssertionError(text)


def _tell(writer: int, text: str) -> None:
    os.write(writer, text.encode("utf-8", "replace")[:4096])


def _told(reader: int) -> str:
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode("utf-8", "replace").strip()


def _name_of(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name
