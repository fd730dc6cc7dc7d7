"""What `lessrl train` is inside a Ray job: a thin driver, with the run in a process that its tree does not hold.

`ray job stop` ends a driver and all that descends from it within seconds, too soon for a checkpoint. So the run's
supervisor belongs to a session of its own and has no living ancestor but the system's first process. It watches a pipe
that the driver holds: when the driver is gone, however it went, the run is cancelled with a checkpoint, or goes on
where it was begun with `--keep-alive`.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from shaping.errors import CheckpointError, UserError

JOB_ENVIRONMENT = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the entry point of a job."""

FORWARDED = (signal.SIGINT, signal.SIGTERM)
EXIT_UNFORESEEN, EXIT_USER_ERROR = 1, 2


def is_ray_job() -> bool:
    """Whether this process is the entry point of a Ray job."""
    return JOB_ENVIRONMENT in os.environ


def drive(work: Callable[[], int], *, keep_alive: bool) -> int:
    """Have the work done by a process outside this one's tree, and wait for it. Call before any thread is started.

    Args:
        work: returns an exit code; called there.
        keep_alive: whether it goes on when this process is gone.
    Returns:
        Its exit code; 1 where it ended without one.
    """
    lease, lease_end = os.pipe()
    told, tell = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # Held back until both sides know what to do with them.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    middle = os.fork()
    if middle == 0:
        os.close(lease_end)
        os.close(told)
        os.setsid()
        if os.fork():
            # Its child is nobody's from here on.
            os._exit(0)
        return _work_apart(work, lease, tell, keep_alive=keep_alive)
    os.waitpid(middle, 0)
    os.close(lease)
    os.close(tell)
    return _follow(told)


def _work_apart(work: Callable[[], int], lease: int, tell: int, *, keep_alive: bool) -> int:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    os.write(tell, f"{os.getpid()}\n".encode())
    if not keep_alive:
        threading.Thread(target=_interrupt_at_end, args=(lease,), daemon=True, name="lease").start()
    code = EXIT_UNFORESEEN
    try:
        code = work()
    except (UserError, CheckpointError):
        code = EXIT_USER_ERROR
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            os.write(tell, f"{code}\n".encode())
    return code


def _interrupt_at_end(lease: int) -> None:
    os.read(lease, 1)
    os.kill(os.getpid(), signal.SIGINT)


def _follow(told: int) -> int:
    with os.fdopen(told, encoding="ascii") as pipe:
        worker = int(pipe.readline())

        def forward(_: int, __: FrameType | None) -> None:
            # A job that is stopped is cancelled: only its user knows whether to begin again.
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGINT)

        for number in FORWARDED:
            signal.signal(number, forward)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        code = pipe.readline().strip()
    return int(code) if code else EXIT_UNFORESEEN
