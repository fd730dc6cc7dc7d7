"""What actors print goes to the run directory, and what it says of a failure comes back with the failure.

A library's own child process often knows the cause that its parent only calls "see above".
"""

import os
import re
import sys
from pathlib import Path

_ERROR = re.compile(r"\b(?P<what>[A-Z]\w*(?:Error|Exception): .+)")
MAX_CAUSE_CHARACTERS = 300
POINTS_ELSEWHERE = ("see stack trace", "root cause above")


def redirect_output(path: str) -> None:
    """Send what this process and its children print to a file; without its folder (another machine) nothing changes."""
    if not Path(path).parent.is_dir():
        return
    with open(path, "ab", buffering=0) as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)


def first_error(logs: Path, role: str) -> str:
    """The first error that a role's actors printed, with the file it stands in; "" when there is none.

    Errors that only point at another one are passed over.
    """
    for path in sorted(logs.glob(f"{role}-*.log")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found = _ERROR.search(line)
            if found and not any(phrase in line.lower() for phrase in POINTS_ELSEWHERE):
                return f"{found['what'].strip()[:MAX_CAUSE_CHARACTERS]} ({path.parent.name}/{path.name})"
    return ""
