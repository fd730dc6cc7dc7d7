"""What may go wrong between a client and a control plane, each with the exit code of the command that met it.

0 as asked, 1 the run or the operation failed, 2 what was asked cannot work, 3 no control plane answers, 4 the run's
state does not allow it, 5 the wait ended first, 130 the run was cancelled.
"""

from collections.abc import Mapping
from typing import Any

from shaping.errors import LessrlError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 3
EXIT_CONFLICT, EXIT_TIMED_OUT, EXIT_CANCELLED = 4, 5, 130

_CONFLICTS = frozenset({409, 412, 428})
_NOT_NOW = frozenset({429, 500, 502, 503, 504})


class CommandFailed(LessrlError):
    """A command could not do what was asked; the message is one line.

    Args:
        exit_code: of the process.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Unreachable(CommandFailed):
    """No control plane answers, or what answers is none."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=EXIT_UNREACHABLE)


class Refused(CommandFailed):
    """The control plane answered with a problem (RFC 9457).

    Args:
        status: of HTTP.
        problem: the body; its extension members are what a program may ask for.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(_sentence(status, problem), exit_code=_exit_code(status))
        self.status = status
        self.problem = dict(problem)

    @property
    def slug(self) -> str:
        """Last part of the problem's type: "run-not-found"."""
        return str(self.problem.get("type", "")).rpartition(":")[2]


def _exit_code(status: int) -> int:
    if status in _CONFLICTS:
        return EXIT_CONFLICT
    return EXIT_UNREACHABLE if status in _NOT_NOW else EXIT_USAGE


def _sentence(status: int, problem: Mapping[str, Any]) -> str:
    """A problem in one line: what, in which state, and what could be done instead."""
    said = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    remarks = []
    if status == 401:
        remarks.append("set LESSRL_TOKEN, or LESSRL_TOKEN_FILE to a file that only you can read")
    if state := problem.get("current_state"):
        allowed = problem.get("allowed_actions") or []
        remarks.append(f"it is {state} and allows " + (", ".join(map(str, allowed)) or "nothing"))
    if operation := problem.get("operation_id"):
        remarks.append(f"in the way is operation {operation}")
    if (generation := problem.get("generation")) is not None:
        remarks.append(f"the config is at generation {generation}")
    remarks += [
        f"{each.get('pointer', '')}: {each.get('message', '')}"
        for each in problem.get("errors") or []
        if str(each.get("message", "")) not in said
    ]
    if status >= 500 and (instance := problem.get("instance")):
        remarks.append(f"its log has {instance}")
    return "; ".join([said, *remarks])
