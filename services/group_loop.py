"""The life of every group from its admission to the buffer: generated round by round, shaped, accepted or dropped.

A failed piece of work is done again elsewhere (services/pool.py), as the same group: prompt and seeds follow from its
ordinal. So is one that was given up because the run is to stop: it waits there until work is given again. Nothing here
knows of learner steps but the number of the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rollout.buffer import GroupBuffer
from rollout.plans.base import FinishedRound, Round
from rollout.requests import GroupFactory, OpenGroup
from rollout.selectors.base import GroupOutcome
from services.bell import Bell
from services.ledger import LedgerLine
from services.ports import RoundHandle, ShapedHandle
from services.verdict_budget import VerdictBudget
from services.workers import Workers
from shaping.errors import GroupLost, RunFailed
from shaping.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedGroup:
    """A shaped group waiting for the learner."""

    group_id: str
    prompt_id: str
    visit: int
    shaped: ShapedHandle
    num_response_tokens: int


@dataclass(slots=True, kw_only=True)
class DroppedGroups:
    """What is told of groups that were dropped since the last batch, beside their number."""

    num_response_tokens: int = 0
    metrics: list[Metrics] = field(default_factory=list)


class GroupLoop:
    """Admits groups while the buffer lets it, and sees each of them through.

    Args:
        is_open: whether groups may be admitted now, as far as pauses and step borders go.
        write_ledger: told of each group that is dropped; whoever trains the others tells of them.
        tell: reports an event: its kind and a message.
        verdicts: how many may be missing.
        attempts: times that a group is generated again when its arrays are lost with a node.
    """

    def __init__(
        self,
        *,
        factory: GroupFactory,
        workers: Workers,
        buffer: GroupBuffer[BufferedGroup],
        bell: Bell,
        is_open: Callable[[], bool],
        write_ledger: Callable[[LedgerLine], None],
        tell: Callable[[str, str], Awaitable[None]],
        verdicts: VerdictBudget,
        attempts: int,
    ) -> None:
        self._factory = factory
        self._workers = workers
        self._buffer = buffer
        self._bell = bell
        self._is_open = is_open
        self._write_ledger = write_ledger
        self._tell = tell
        self._verdicts = verdicts
        self._attempts = attempts
        self._open: dict[int, OpenGroup] = {}
        self._outcomes: dict[int, tuple[OpenGroup, GroupOutcome]] = {}
        self._dropped = DroppedGroups()

    @property
    def in_flight(self) -> Iterator[OpenGroup]:
        """Groups under way, in order of admission."""
        return (self._open[ordinal] for ordinal in sorted(self._open))

    @property
    def ended(self) -> Iterator[tuple[OpenGroup, GroupOutcome]]:
        """Groups that ended since `settle`, in order of admission."""
        return (self._outcomes[ordinal] for ordinal in sorted(self._outcomes))

    def restore_ended(self, group: OpenGroup, outcome: GroupOutcome) -> None:
        """Take up a group that had ended when a checkpoint was taken, and that nothing was learned from."""
        self._outcomes[group.ordinal] = (group, outcome)

    @property
    def dropped(self) -> DroppedGroups:
        """Groups dropped since the last batch was taken."""
        return self._dropped

    def restore_dropped(self, num_response_tokens: int, metrics: Metrics) -> None:
        """Go on counting from what a checkpoint says of groups dropped since its last batch."""
        self._dropped = DroppedGroups(num_response_tokens=num_response_tokens, metrics=[metrics])

    def reopen(self, ordinal: int, prompt_id: str, visit: int) -> None:
        """Take up a group that the buffer counts as in flight but that no process works on."""
        self._open[ordinal] = self._factory.reopen(ordinal, prompt_id, visit)

    async def run(self) -> None:
        """Admit groups until cancelled.

        Raises:
            RunFailed: a group failed too often, or too many verdicts are missing.
        """
        async with asyncio.TaskGroup() as tasks:
            for group in self.in_flight:
                tasks.create_task(self._see_through(group))
            while True:
                await self._bell.wait_until(lambda: self._is_open() and self._buffer.can_admit())
                ordinal = self._buffer.admit()
                self._open[ordinal] = self._factory.open(ordinal)
                tasks.create_task(self._see_through(self._open[ordinal]))

    def settle(self) -> None:
        """Tell selector and plan what ended groups taught, in order, so that timing decides nothing."""
        for ordinal in sorted(self._outcomes):
            group, outcome = self._outcomes[ordinal]
            self._factory.settle(group, outcome)
        self._outcomes.clear()

    def take_dropped(self) -> DroppedGroups:
        """Groups dropped since the last batch: they count with the step that they were sampled for."""
        dropped, self._dropped = self._dropped, DroppedGroups()
        return dropped

    async def _see_through(self, group: OpenGroup) -> None:
        handles, shaped = await self._generate_and_shape(group)
        num_tokens = sum(handle.summary.num_response_tokens for handle in handles)
        summary, prompt_id = shaped.summary, group.prompt.prompt_id
        if too_many := self._verdicts.add(prompt_id, summary.num_scored, summary.excluded):
            raise RunFailed(role="shaping", cause=too_many, group_id=group.group_id)
        outcome = GroupOutcome(
            prompt_id=prompt_id,
            num_correct=summary.num_correct,
            num_scored=summary.num_scored,
            was_trained=summary.drop is None,
        )
        self._outcomes[group.ordinal] = (group, outcome)
        del self._open[group.ordinal]
        if summary.drop is None:
            waiting = BufferedGroup(
                group_id=group.group_id,
                prompt_id=prompt_id,
                visit=group.visit,
                shaped=shaped,
                num_response_tokens=num_tokens,
            )
            self._buffer.accept(group.ordinal, waiting)
        else:
            reason = summary.drop.reason
            self._buffer.drop(group.ordinal, reason)
            self._dropped.num_response_tokens += num_tokens
            self._dropped.metrics.append(summary.metrics)
            self._write_ledger(
                LedgerLine(
                    ordinal=group.ordinal,
                    group_id=group.group_id,
                    prompt_id=prompt_id,
                    visit=group.visit,
                    outcome=f"dropped_{reason.value}",
                    step=self._buffer.version + 1,
                )
            )
        self._bell.ring()
        await self._speak()

    async def _speak(self) -> None:
        """Pass on what the buffer has to say.

        Raises:
            RunFailed: too few groups are kept, and the run is to stop then.
        """
        for notice in self._buffer.pop_notices():
            await self._tell(notice.kind, notice.message)
        if starvation := self._buffer.starvation():
            raise RunFailed(role="shaping", cause=starvation)

    async def _generate_and_shape(self, group: OpenGroup) -> tuple[tuple[RoundHandle, ...], ShapedHandle]:
        for attempt in range(1, self._attempts + 1):
            try:
                handles = await self._generate_rounds(group)
                return handles, await self._workers.shape(handles)
            except GroupLost as lost:
                if attempt == self._attempts:
                    raise
                group.finished.clear()
                await self._tell("group_retried", f"group {group.group_id} is generated again: {lost.cause}")
        raise AssertionError("attempts is at least 1")

    async def _generate_rounds(self, group: OpenGroup) -> tuple[RoundHandle, ...]:
        handles: list[RoundHandle] = []
        while True:
            planned = self._factory.next_request(group, num_rounds_done=len(handles), step=self._buffer.version)
            if planned is None:
                return tuple(handles)
            plan_round, request = planned
            handle = await self._workers.generate(request)
            handles.append(handle)
            if self._factory.scores_rounds:
                group.finished.append(await self._finished(plan_round, handle))

    async def _finished(self, plan_round: Round, handle: RoundHandle) -> FinishedRound:
        outcome = await self._workers.score(handle)
        rewards = np.array(outcome.rewards, dtype=np.float32)
        return FinishedRound(round=plan_round, rewards=rewards, num_correct=outcome.num_correct)
