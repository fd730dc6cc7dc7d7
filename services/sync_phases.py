"""What a weight sync may do next, and who is to blame for what went wrong in a phase. Pure: no clock, no port.

    idle -> propose -> prepare -> transfer -> verify -> commit -> canary -> idle
               |          |          |           |         |         |
               +----------+----------+-> abort <-+---------+---------+      abort -> propose, canary or idle

An engine that died or gave no answer in time is left out at once; one that refused is asked once more. A channel that
broke says nothing of who broke it, unless the learner's end held: engines that it broke under together are tried each
in a channel of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shaping.errors import RunFailed

MAX_REFUSALS = 2
"""Refusals of one version after which an engine is left out."""

MAX_BLIND_BREAKS = 2
"""Times that a channel may break under engines together, nobody known to be at fault, before each gets its own."""

MAX_LEARNER_BREAKS = 3
"""Times that nobody but the learner, or an engine alone with it, can have broken the channel, before the run ends."""

PEER_SHARE = 0.9
"""Part of a phase's deadline after which a peer of the weight channel stops waiting, so that its call still returns."""


class SyncPhase(StrEnum):
    """Where a weight sync stands."""

    IDLE = "idle"
    PROPOSE = "propose"
    PREPARE = "prepare"
    TRANSFER = "transfer"
    VERIFY = "verify"
    COMMIT = "commit"
    CANARY = "canary"
    ABORT = "abort"


_NEXT: Mapping[SyncPhase, frozenset[SyncPhase]] = {
    SyncPhase.IDLE: frozenset({SyncPhase.PROPOSE}),
    # Straight to the canary where every engine serves the version already.
    SyncPhase.PROPOSE: frozenset({SyncPhase.PREPARE, SyncPhase.CANARY, SyncPhase.IDLE, SyncPhase.ABORT}),
    SyncPhase.PREPARE: frozenset({SyncPhase.TRANSFER, SyncPhase.ABORT}),
    SyncPhase.TRANSFER: frozenset({SyncPhase.VERIFY, SyncPhase.ABORT}),
    SyncPhase.VERIFY: frozenset({SyncPhase.COMMIT, SyncPhase.ABORT}),
    # Again from the start, where engines take the version one after another.
    SyncPhase.COMMIT: frozenset({SyncPhase.CANARY, SyncPhase.PROPOSE, SyncPhase.IDLE, SyncPhase.ABORT}),
    SyncPhase.CANARY: frozenset({SyncPhase.IDLE, SyncPhase.ABORT}),
    # To the canary where those that are left serve the version; again where the abort itself was cancelled.
    SyncPhase.ABORT: frozenset({SyncPhase.PROPOSE, SyncPhase.CANARY, SyncPhase.IDLE, SyncPhase.ABORT}),
}


def entered(current: SyncPhase, following: SyncPhase) -> SyncPhase:
    """The following phase.

    Raises:
        RunFailed: it may not follow; a second sync was begun before the first had ended, or a phase was left out.
    """
    if following not in _NEXT[current]:
        allowed = ", ".join(sorted(_NEXT[current]))
        cause = f"a weight sync in phase {current} may go on with {allowed}, not with {following}"
        raise RunFailed(role="orchestrator", cause=cause)
    return following


class Answer(StrEnum):
    """How one party left a phase."""

    DONE = "done"
    REFUSED = "refused"
    BROKEN = "broken"
    DEAD = "dead"
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One engine's answer and, unless it is done, its cause."""

    answer: Answer
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """An engine that a sync went on without; it must be started again.

    Args:
        phase: in which it failed last.
        cause: names the bucket where one was at fault.
    """

    worker_id: str
    phase: SyncPhase
    cause: str

    def __str__(self) -> str:
        return f"{self.worker_id} was left out of the weight sync in phase {self.phase}: {self.cause}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What follows from the replies of one phase.

    Args:
        left_out: engines to go on without.
        blamed: engines that get a refusal counted.
        is_blind: the channel broke under several, and nobody is known to be at fault.
        suspects_learner: its end broke and nobody else can have broken it, or only an engine that is left out for it.
        goes_on: whether all the others are done, so that the next phase may begin without a new attempt.
    """

    left_out: tuple[LeftOut, ...]
    blamed: tuple[str, ...]
    is_blind: bool
    suspects_learner: bool
    goes_on: bool


def judge(
    phase: SyncPhase, replies: Mapping[str, Reply], num_refusals: Mapping[str, int], *, learner_broke: bool = False
) -> Judgement:
    """Decide who is left out.

    Args:
        replies: of every engine that was asked, by worker id.
        num_refusals: counted so far, by worker id; 0 where there is none.
        learner_broke: whether the learner's end of the channel broke.
    """

    def those(*answers: Answer) -> tuple[str, ...]:
        return tuple(name for name, reply in replies.items() if reply.answer in answers)

    gone, refused, broken = those(Answer.DEAD, Answer.LATE), those(Answer.REFUSED), those(Answer.BROKEN)
    if phase is SyncPhase.CANARY:
        # The version is live: there is nothing to try again.
        gone, refused, broken = (*gone, *refused, *broken), (), ()
    is_explained = bool(gone or refused)
    is_blind = bool(broken) and not is_explained and learner_broke and len(replies) > 1
    blamed = refused if is_explained or is_blind else broken
    spent = tuple(name for name in blamed if num_refusals.get(name, 0) + 1 >= MAX_REFUSALS)
    left_out = tuple(
        LeftOut(worker_id=name, phase=phase, cause=replies[name].cause) for name in replies if name in (*gone, *spent)
    )
    remaining = [reply for name, reply in replies.items() if name not in (*gone, *spent)]
    goes_on = bool(remaining) and all(reply.answer is Answer.DONE for reply in remaining)
    suspects_learner = learner_broke and not is_explained and (not broken or bool(spent))
    return Judgement(
        left_out=left_out, blamed=blamed, is_blind=is_blind, suspects_learner=suspects_learner, goes_on=goes_on
    )
