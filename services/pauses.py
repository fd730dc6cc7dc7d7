"""A pause, from its order to `paused` and back: what is waited for, what is saved and released, what is said of it.

    drain    no group is admitted; groups under way finish, are shaped and queued; the learner step under way ends
    freeze   engines stand still; groups in shaping finish; the learner step under way ends, groups stay under way
    abort    engines give up what they do, and it goes back; the rest as in a freeze

    draining | freezing | aborting -> shaping_tail -> finishing_step -> saving -> releasing -> paused

A run is paused at a step border: the learner is between two steps, and the engines serve its version or stand still.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rollout.buffer import GroupBuffer
from services.bell import Bell
from services.control.machine import Happening
from services.evaluation.in_run import RunEvaluations
from services.group_loop import BufferedGroup
from services.holding import EngineHold
from services.pausing import Released, RunCancelled, UserGate
from services.reports import (
    ControlReport,
    OperationReport,
    PauseMode,
    PauseOrder,
    ReleaseLevel,
    RunEvent,
    RunState,
)
from services.saving import Saver
from services.stopwatch import Stopwatch
from services.workers import Workers

LEARNER_EXACT = "learner_exact"
_FIRST_PHASES = {PauseMode.DRAIN: "draining", PauseMode.FREEZE: "freezing", PauseMode.ABORT: "aborting"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedParts:
    """What a pause stops, saves and starts again."""

    gate: UserGate
    hold: EngineHold
    saver: Saver
    workers: Workers
    buffer: GroupBuffer[BufferedGroup]
    evaluations: RunEvaluations
    stopwatch: Stopwatch
    bell: Bell


class Pauses:
    """Carries out pauses. The training loop asks `is_due` at every border, and attends to what is.

    Args:
        is_busy: whether a learner step or what belongs to it is under way.
        report: tells the control plane.
    """

    def __init__(
        self,
        parts: PausedParts,
        *,
        is_busy: Callable[[], bool],
        report: Callable[[ControlReport], Awaitable[None]],
    ) -> None:
        self._parts = parts
        self._is_busy = is_busy
        self._report = report
        self._late_phase = ""
        self._is_attending = False
        self._told = ("", "")
        # The checkpoint of the moment at which the run stands, while it is paused.
        self._checkpoint = ""

    def is_due(self) -> bool:
        """Whether nothing is under way any more that a pause has to wait for."""
        order = self._parts.gate.order
        return order is not None and self._phase_of(order) == ""

    def is_due_at_once(self) -> bool:
        """`is_due`, where the user does not want what the training loop waits for to be finished."""
        return self._parts.gate.stops_at_once and self.is_due()

    async def attend(self, phase: str) -> None:
        """Stop here; returns once the run goes on.

        Args:
            phase: of the step, that ends here.
        Raises:
            RunCancelled, Released: it does not.
        """
        order = self._parts.gate.order
        assert order is not None, "a pause is due"
        self._parts.stopwatch.mark(phase)
        self._is_attending = True
        try:
            if await self._save(order):
                await self._rest(order)
        finally:
            self._is_attending, self._late_phase = False, ""

    async def tell_phases(self) -> None:
        """Say how far a pause is, whenever it gets further; until it is cancelled."""
        while True:
            await self._parts.bell.wait_until(lambda: self._standing() != self._told)
            self._told = self._standing()
            self._await_ends(bool(self._told[1]))
            if progress := self.under_way():
                await self._report(progress)

    def under_way(self) -> OperationReport | None:
        """How far the pause under way is; None where there is none, or it is in force."""
        operation_id, phase = self._standing()
        if not phase:
            return None
        num_groups = self._parts.buffer.num_in_flight
        return OperationReport(operation_id=operation_id, phase=phase, inflight_groups=num_groups)

    def refusal(self, order: PauseOrder, phase: str, error: str) -> RunEvent:
        """The pause failed, and the run goes on."""
        details = {"operation_id": order.operation_id, "phase": phase, "error": error}
        message = f"the pause failed in phase {phase}, and the run goes on: {error}"
        return RunEvent(kind=Happening.PAUSE_FAILED.value, message=message, state=RunState.RUNNING, details=details)

    def _standing(self) -> tuple[str, str]:
        """Operation and phase of the pause under way."""
        order = self._parts.gate.order
        if order is None:
            return "", ""
        phase = self._late_phase
        if not self._is_attending:
            phase = self._phase_of(order) or ("finishing_step" if self._is_busy() else "")
        return (order.operation_id, phase) if phase else ("", "")

    def _phase_of(self, order: PauseOrder) -> str:
        """What is still waited for, beside the training loop itself."""
        parts, rollout, shaping = self._parts, self._parts.workers.rollout, self._parts.workers.shaping
        if not parts.hold.is_as_wanted:
            return _FIRST_PHASES[order.mode]
        if order.mode is PauseMode.DRAIN:
            if rollout.num_asked:
                return "draining"
            if parts.buffer.num_in_flight:
                return "shaping_tail"
            return "draining" if parts.evaluations.is_beside_training else ""
        if order.mode is PauseMode.ABORT and rollout.num_under_way:
            return "aborting"
        return "shaping_tail" if shaping.num_under_way else ""

    def _await_ends(self, is_awaited: bool) -> None:
        for pool in (self._parts.workers.rollout, self._parts.workers.shaping):
            pool.tell_ends(is_awaited)

    async def _save(self, order: PauseOrder) -> bool:
        """Commit a checkpoint of this moment, where one is wanted; whether the pause goes on.

        Raises:
            RunCancelled: the run ends here.
        """
        gate = self._parts.gate
        if order.checkpoint and not self._checkpoint:
            self._enter("saving")
            outcome = await self._parts.saver.save()
            self._checkpoint = outcome.name
            if outcome.error and not gate.is_cancel:
                await self._fail(order, "saving", f"no checkpoint could be committed: {outcome.error}")
                return False
        if gate.is_cancel and gate.order == order:
            raise RunCancelled(gate.reason)
        # Otherwise it was withdrawn, or asked for in another way meanwhile: then this border is looked at again.
        if gate.order != order:
            self._checkpoint = ""
        return gate.order == order

    async def _rest(self, order: PauseOrder) -> None:
        """Release, say `paused`, and wait until the user wants something else."""
        parts, level = self._parts, order.release
        if level is ReleaseLevel.ALL:
            raise Released(checkpoint=self._checkpoint, operation_id=order.operation_id)
        parts.gate.keep_shut()
        try:
            await self._stand(order)
            while parts.gate.is_cancel:
                # Here, with all that was given back: nothing has changed since, and its checkpoint is this one.
                self._is_attending = False
                await parts.bell.wait_until(self.is_due)
                self._is_attending = True
                assert parts.gate.order is not None, "a pause is due"
                await self._save(parts.gate.order)
            await parts.hold.wake(parts.buffer.version)
            self._checkpoint = ""
        finally:
            parts.stopwatch.resume()
            parts.gate.reopen()
        if parts.gate.order is None:
            await parts.bell.wait_until(lambda: parts.hold.is_as_wanted)
            await self._report(RunEvent(kind=Happening.RESUMED.value, message="Training", state=RunState.RUNNING))

    async def _stand(self, order: PauseOrder) -> None:
        parts = self._parts
        if order.release is not ReleaseLevel.NONE:
            self._enter("releasing")
            if failed := await parts.hold.release(order.release):
                await self._fail(order, "releasing", failed)
        if parts.gate.order != order:
            return
        self._late_phase = ""
        parts.stopwatch.pause()
        await self._report(self._paused(order, self._checkpoint))
        await parts.bell.wait_until(lambda: parts.gate.order != order)

    def _paused(self, order: PauseOrder, checkpoint: str) -> RunEvent:
        buffer = self._parts.buffer
        is_exact = order.mode is not PauseMode.FREEZE and bool(checkpoint)
        details = {
            "operation_id": order.operation_id,
            "checkpoint": checkpoint,
            "released": order.release.value,
            "exactness": LEARNER_EXACT if is_exact else "none",
        }
        in_flight = f", {buffer.num_in_flight} groups are under way" if buffer.num_in_flight else ""
        message = f"Paused at version {buffer.version}; {buffer.num_buffered} shaped groups wait{in_flight}"
        return RunEvent(kind=Happening.PAUSED.value, message=message, state=RunState.PAUSED, details=details)

    def _enter(self, phase: str) -> None:
        self._late_phase = phase
        self._parts.bell.ring()

    async def _fail(self, order: PauseOrder, phase: str, error: str) -> None:
        self._parts.gate.give_up(order)
        await self._report(self.refusal(order, phase, error))
