"""`lessrl` in a process that kills itself, once: `python dying_run.py MARKER NUMBER PART lessrl-arguments...`

At the NUMBER-th file operation on a path that holds PART the process gets SIGKILL, as from outside; MARKER is written
just before, so that the process that goes on afterwards lives.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.cli import main


def die_at(marker: Path, number: int, part: str) -> None:
    """Listen to Python's audit events of opening and renaming files."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in ("open", "os.rename") and part in str(arguments[0]):
            seen += 1
            if seen == number and not os.path.lexists(marker):
                os.symlink("dead", marker)
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    die_at(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    main(sys.argv[4:])
