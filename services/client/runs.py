"""Which run is meant: an id, a name, or the only one that is going on."""

import re

from services.client.errors import EXIT_USAGE, CommandFailed
from services.client.http import ControlClient, JsonObject

TERMINAL = frozenset({"completed", "failed", "cancelled"})
MAX_LISTED = 500
MAX_NAMED = 5

_RUN_ID = re.compile(r"run[_-][A-Za-z0-9_-]+")


def state_of(run: JsonObject) -> str:
    """Of a run, or of its status."""
    return str(run.get("status", run).get("state", ""))


def is_over(run: JsonObject) -> bool:
    """Whether a run, or its status, is in a state that it does not leave by itself."""
    return state_of(run) in TERMINAL


def choose_run(client: ControlClient, wanted: str = "") -> str:
    """The id of the run that is meant.

    Args:
        wanted: an id, the name of one run, or "" for the only active run; where none is active, for the only run.
    Raises:
        CommandFailed: none or several could be meant (exit code 2).
    """
    if _RUN_ID.fullmatch(wanted):
        return wanted
    runs = list(client.pages("/v1/runs", limit=MAX_LISTED))
    if wanted:
        found = [run for run in runs if wanted in (run.get("id"), run.get("name"))]
        # A name is used again and again; the run that is meant is the one that goes on.
        found = [run for run in found if not is_over(run)] or found
    else:
        found = [run for run in runs if not is_over(run)] or runs
    if len(found) == 1:
        return str(found[0]["id"])
    raise CommandFailed(_not_one(wanted, found, client), exit_code=EXIT_USAGE)


def _not_one(wanted: str, found: list[JsonObject], client: ControlClient) -> str:
    what = (
        f"RUN must be one run's id or name, got {wanted!r}" if wanted else "RUN may be left out where one run is active"
    )
    if not found:
        there = "no such run" if wanted else "no run at all"
        return f"{what}; found {there} at {client.endpoint.url}; `lessrl list` shows what there is"
    named = ", ".join(f"{run.get('id')} ({run.get('name')}, {state_of(run)})" for run in found[:MAX_NAMED])
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return f"{what}; found {named}{more}; name one by its id"
