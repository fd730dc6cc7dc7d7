"""The life of every group from its admission to the buffer: generated round by round, shaped, accepted or dropped.

A failed piece of work is done again elsewhere (services/pool.py), as the same group: prompt and seeds follow from its
ordinal. So is one that was given up because the run is to stop: it waits there until work is given again. Rounds of a
group follow one another, and no group waits for another's. Nothing here knows of learner steps but the number of the
next one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rollout.buffer import GroupBuffer
from rollout.one_version import NextMove, after_round
from rollout.plans.base import FinishedRound, Round
from rollout.requests import GroupFactory, OpenGroup
from rollout.selectors.base import GroupOutcome
from services.bell import Bell
from services.ledger import LedgerLine, LedgerRound, rounds_of
from services.ports import RoundHandle, ShapedHandle
from services.stopwatch import Clock
from services.verdict_budget import VerdictBudget
from services.workers import Workers
from shaping.errors import GroupLost, RunFailed
from shaping.groups import DropReason
from shaping.histograms import SECONDS, Histogram
from shaping.metrics import Metric, Metrics, Sum
from shaping.records import GroupRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTimes:
    """When a group got how far, by the run's clock: its admission, its last response, the end of its shaping."""

    admitted: float
    generated: float
    shaped: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedGroup:
    """A shaped group waiting for the learner.

    Args:
        num_response_tokens: of all that was sampled for it, discarded rounds included.
        rounds: of a group that was sampled in several.
        times: None of a group that another process of the run shaped.
    """

    group_id: str
    prompt_id: str
    visit: int
    shaped: ShapedHandle
    num_response_tokens: int
    rounds: tuple[LedgerRound, ...] = ()
    times: GroupTimes | None = None


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
        clock: seconds that only rise.
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
        clock: Clock,
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
        self._clock = clock
        self._num_finished = 0
        self._open: dict[int, OpenGroup] = {}
        self._outcomes: dict[int, tuple[OpenGroup, GroupOutcome]] = {}
        self._dropped = DroppedGroups()
        self._told_of: dict[NextMove, int] = {}

    @property
    def num_finished(self) -> int:
        """Groups that were shaped since this process began, dropped ones included."""
        return self._num_finished

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

    def reopen(self, group: OpenGroup) -> None:
        """Take up a group that the buffer counts as in flight but that no process works on."""
        self._open[group.ordinal] = group

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

    def times(self, groups: Iterable[BufferedGroup]) -> dict[str, Histogram]:
        """How long groups that go to the learner now were under way, and waited; those that this process saw shaped."""
        now, known = self._clock(), [each.times for each in groups if each.times is not None]
        return {
            "rollout_group_s": Histogram.of([each.generated - each.admitted for each in known], SECONDS),
            "queue_shaping_wait_s": Histogram.of([each.shaped - each.generated for each in known], SECONDS),
            "queue_learner_wait_s": Histogram.of([now - each.shaped for each in known], SECONDS),
        }

    async def _see_through(self, group: OpenGroup) -> None:
        admitted = self._clock()
        handles, shaped, generated = await self._generate_and_shape(group)
        times = GroupTimes(admitted=admitted, generated=generated, shaped=self._clock())
        self._num_finished += 1
        num_tokens = sum(handle.summary.num_response_tokens for handle in handles) + group.num_discarded_tokens
        summary, prompt_id = shaped.summary, group.prompt.prompt_id
        if too_many := self._verdicts.add(prompt_id, summary.num_scored, summary.excluded):
            raise RunFailed(role="shaping", cause=too_many, group_id=group.group_id)
        outcome = GroupOutcome(
            prompt_id=prompt_id,
            num_correct=summary.num_correct,
            num_scored=summary.num_scored,
            was_trained=summary.drop is None,
            remembered=summary.remembered,
        )
        self._outcomes[group.ordinal] = (group, outcome)
        del self._open[group.ordinal]
        ended = BufferedGroup(
            group_id=group.group_id,
            prompt_id=prompt_id,
            visit=group.visit,
            shaped=replace(shaped, summary=replace(summary, metrics={**summary.metrics, **self._measured(group)})),
            num_response_tokens=num_tokens,
            rounds=rounds_of(group.finished),
            times=times,
        )
        if summary.drop is None:
            self._buffer.accept(group.ordinal, ended)
        else:
            self._drop(group.ordinal, ended, summary.drop.reason)
        self._bell.ring()
        await self._speak()

    def _drop(self, ordinal: int, ended: BufferedGroup, reason: DropReason) -> None:
        self._buffer.drop(ordinal, reason)
        self._dropped.num_response_tokens += ended.num_response_tokens
        self._dropped.metrics.append(ended.shaped.summary.metrics)
        self._write_ledger(
            LedgerLine(
                ordinal=ordinal,
                group_id=ended.group_id,
                prompt_id=ended.prompt_id,
                visit=ended.visit,
                rounds=ended.rounds,
                outcome=f"dropped_{reason.value}",
                step=self._buffer.version + 1,
            )
        )

    def _measured(self, group: OpenGroup) -> dict[str, Metric]:
        """What a group's rounds tell beside what shaping measured."""
        found = self._factory.metrics(group)
        if self._factory.keeps_one_version:
            found["hint_closed_early_groups_count"] = Sum(float(group.is_closed_early))
            found["hint_begun_again_groups_count"] = Sum(float(group.num_begun_again > 0))
        return found

    async def _speak(self) -> None:
        """Pass on what the buffer has to say.

        Raises:
            RunFailed: too few groups are kept, and the run is to stop then.
        """
        for notice in self._buffer.pop_notices():
            await self._tell(notice.kind, notice.message)
        if starvation := self._buffer.starvation():
            raise RunFailed(role="shaping", cause=starvation)

    async def _generate_and_shape(self, group: OpenGroup) -> tuple[tuple[RoundHandle, ...], ShapedHandle, float]:
        """Rounds, what came of them, and when the last of them was there."""
        for attempt in range(1, self._attempts + 1):
            try:
                handles = await self._generate_rounds(group)
                generated = self._clock()
                return handles, await self._workers.shape(handles), generated
            except GroupLost as lost:
                if attempt == self._attempts:
                    raise
                group.finished.clear()
                group.is_closed_early = False
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
            if self._factory.keeps_one_version:
                sampled = [each.summary for each in (*handles, handle)]
                move = after_round(sampled, group.finished)
                if move is not NextMove.GO_ON:
                    await self._meet_version(group, [*handles, handle], move)
                    if move is NextMove.CLOSE:
                        return tuple(handles)
                    handles.clear()
                    continue
            handles.append(handle)
            if self._factory.scores_rounds:
                group.finished.append(await self._finished(plan_round, request, handle))

    async def _meet_version(self, group: OpenGroup, sampled: Sequence[RoundHandle], move: NextMove) -> None:
        """A newer policy version has met a group in round `len(sampled)`: give up what cannot stay beside it.

        Told of the first group that a version meets so; metrics count them all.
        """
        version = sampled[-1].summary.max_policy_version
        met = f"policy version {version} met group {group.group_id} in round {len(sampled)}"
        if move is NextMove.CLOSE:
            group.is_closed_early = True
            group.num_discarded_tokens += sampled[-1].summary.num_response_tokens
            kind, message = "group_closed_early", f"{met}: it ends with the rounds before"
        else:
            group.finished.clear()
            group.num_begun_again += 1
            group.num_discarded_tokens += sum(each.summary.num_response_tokens for each in sampled)
            kind, message = "group_begun_again", f"{met}: it is begun again, its rounds before hold no two outcomes"
        if self._told_of.get(move) != version:
            self._told_of[move] = version
            await self._tell(kind, message)

    async def _finished(self, plan_round: Round, request: GroupRequest, handle: RoundHandle) -> FinishedRound:
        outcome = await self._workers.score(handle)
        return FinishedRound(
            round=plan_round,
            rewards=np.array(outcome.rewards, dtype=np.float32),
            num_correct=outcome.num_correct,
            num_hint_tokens=len(request.hint_ids),
        )
