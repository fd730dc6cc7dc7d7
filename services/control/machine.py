"""The life of one run as a pure state machine: a call or a happening in, a new life and effects out.

    pending -> starting -> running -> completed
       |          |        |    ^
       |          |     pausing |
       |          |        v    resuming
       |          |      paused --'
       '----------'--------'------> cancelling -> cancelled      any state that is not terminal -> failed

Users call (`pause`, `resume`, `cancel`); the run reports (`happened`, `progressed`); the control plane watches the
clock and the process (`deadline_missed`, `expired`, `lost`, `begin_attempt`). Nothing here knows HTTP, clocks or
operation ids: the control plane carries the effects out, in their order. A report that no longer fits, as a call
overtook it, changes nothing. Pausing, resuming and cancelling always have an operation with a deadline.
"""

from services.control.asking import allowed_actions, cancel, pause, resume
from services.control.course import begin_attempt, deadline_missed, expired, happened, lost, progressed
from services.control.life import (
    Accepted,
    AdvanceOperation,
    Announce,
    Effect,
    EndOperation,
    Happening,
    KillProcess,
    LaunchProcess,
    NotePhase,
    OpenOperation,
    OperationKind,
    Order,
    Refused,
    RunLife,
    Transition,
    WriteIntent,
)

__all__ = [
    "Accepted",
    "AdvanceOperation",
    "Announce",
    "Effect",
    "EndOperation",
    "Happening",
    "KillProcess",
    "LaunchProcess",
    "NotePhase",
    "OpenOperation",
    "OperationKind",
    "Order",
    "Refused",
    "RunLife",
    "Transition",
    "WriteIntent",
    "allowed_actions",
    "begin_attempt",
    "cancel",
    "deadline_missed",
    "expired",
    "happened",
    "lost",
    "pause",
    "progressed",
    "resume",
]
