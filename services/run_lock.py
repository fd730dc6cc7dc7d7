"""One process at a time works in a run's directory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shaping.errors import UserError

LOCK_FILE = ".lock"


@contextmanager
def hold_run_dir(run_dir: Path) -> Iterator[None]:
    """Hold a run's directory; the system lets go of it when this process ends, however it ends.

    Raises:
        UserError: another process holds it, or it cannot be held.
    """
    path = run_dir / LOCK_FILE
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"a directory must be writable, found {error.strerror} ({run_dir})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"one process at a time works in a directory, process {holder} does ({run_dir}); wait until it "
                "has ended, or end it"
            ) from error
        except OSError as error:
            raise UserError(f"a directory must allow locks, found {error.strerror} ({run_dir})") from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_held(run_dir: Path) -> bool | None:
    """Whether a process holds a run's directory; None where this host cannot see it.

    Whoever takes the directory at this very moment is refused: ask only where no process is expected to begin.
    """
    try:
        with (run_dir / LOCK_FILE).open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False if run_dir.is_dir() else None
    except OSError:
        return None
    return False
