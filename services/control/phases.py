"""Phases of the operations that change a run's life, and how long they may take by themselves."""

from services.reports import PauseMode

RESUME_TIMEOUT_SECONDS = 300.0
RESTART_TIMEOUT_SECONDS = 1800.0
"""For a resume that loads models again."""
KILL_TIMEOUT_SECONDS = 30.0
"""How long a process that was killed may take to be seen as gone."""

FIRST_PHASES = {PauseMode.DRAIN: "draining", PauseMode.FREEZE: "freezing", PauseMode.ABORT: "aborting"}
PHASES_OF_NO_RETURN = frozenset({"saving", "releasing"})
"""A pause that is so far ends first: a resume waits for it, and harder means would not help it."""
WAITING = "waiting_for_start"
QUEUED = "queued"
REOPENING = "reopening"
OVERDUE = "overdue"
KILLING = "killing"
