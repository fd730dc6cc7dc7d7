"""The run as a checkpoint has it: taken at a step border, and taken up again. The store writes it down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollout.buffer import GroupBuffer
from rollout.requests import GroupFactory
from services.group_loop import BufferedGroup, GroupLoop
from services.live_hooks import LiveHooks
from services.pool import RestartBudget
from services.ports import ShapedHandle
from services.run_store import RunStore, SaveOutcome
from services.snapshot import (
    RunSnapshot,
    buffered_groups,
    buffered_items,
    ended_group,
    ended_groups,
    open_group,
    open_groups,
)
from services.stopwatch import Stopwatch
from services.workers import Workers
from shaping.metrics import merge_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Where a run goes on: its state, and its buffered groups as `RunSnapshot.buffered` lists them."""

    snapshot: RunSnapshot
    groups: tuple[ShapedHandle, ...]


class Saver:
    """Saves and restores what the orchestrator's own process holds.

    The learner must be between two steps, and every engine must serve its version.

    Args:
        num_skipped: learner steps that were skipped so far.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        factory: GroupFactory,
        buffer: GroupBuffer[BufferedGroup],
        groups: GroupLoop,
        workers: Workers,
        stopwatch: Stopwatch,
        restarts: RestartBudget,
        live: LiveHooks,
        num_skipped: Callable[[], int],
    ) -> None:
        self._store = store
        self._factory = factory
        self._buffer = buffer
        self._groups = groups
        self._workers = workers
        self._stopwatch = stopwatch
        self._restarts = restarts
        self._live = live
        self._num_skipped = num_skipped
        # Of the last step that ended, for the choice of the best checkpoint.
        self.metrics: dict[str, float] = {}

    async def save(self, *, on_begun: Callable[[], None] = lambda: None, tag: str = "") -> SaveOutcome:
        """Commit a checkpoint of this moment.

        Args:
            on_begun: called once the moment is fixed: groups may be admitted and end from then on.
            tag: a user's words for it.
        """
        waiting = self._buffer.waiting()
        draft = self._store.begin(self._snapshot(waiting))
        on_begun()
        groups = tuple(item.shaped for _, item in waiting)
        outcome = await draft.finish(groups, self.metrics, self._workers, tag=tag)
        self._stopwatch.mark("checkpoint")
        return outcome

    def restore(self, resumed: Resumed) -> int:
        """Go on from a checkpoint; engines have other weights than the learner until they are sent them.

        Returns:
            Learner steps that were skipped until then.
        """
        saved = resumed.snapshot
        self._factory.restore(saved.factory)
        self._buffer.restore(saved.buffer, buffered_items(saved.buffered, resumed.groups))
        for each in saved.in_flight:
            self._groups.reopen(open_group(each, self._factory.reopen))
        for ended in saved.ended:
            self._groups.restore_ended(*ended_group(ended, self._factory.reopen))
        self._groups.restore_dropped(saved.dropped_tokens, saved.dropped_metrics)
        self._restarts.spent = saved.num_worker_restarts
        self._stopwatch.go_on_from(saved.elapsed_s)
        self._workers.rollout.hold_back()
        return saved.num_skipped_steps

    def _snapshot(self, waiting: Sequence[tuple[int, BufferedGroup]]) -> RunSnapshot:
        return RunSnapshot(
            version=self._buffer.version,
            buffer=self._buffer.state(),
            factory=self._factory.state(),
            in_flight=open_groups(self._groups.in_flight),
            buffered=buffered_groups(waiting),
            ended=ended_groups(self._groups.ended),
            dropped_tokens=self._groups.dropped.num_response_tokens,
            dropped_metrics=merge_metrics(self._groups.dropped.metrics),
            elapsed_s=self._stopwatch.elapsed,
            num_worker_restarts=self._restarts.spent,
            num_skipped_steps=self._num_skipped(),
            live=self._live.state(),
        )
