"""Weights from the learner to every engine, as one transaction with one owner. The phases are in sync_phases.py.

propose: every party answers, and says what it serves. prepare: those behind and the learner meet in a channel, a new
one where the last was used by others or broke. transfer: buckets are staged beside the live weights; generation goes
on. verify: every engine compares its own checksums with the learner's manifest, before any commits. commit. canary:
engines sample a fixed prompt, and the learner says how far it is from what they report.

Each phase has the same deadline. An abort drops what is staged and un-pauses every engine, whatever the others do. An
engine that fails, refuses twice or is too slow is left out by name, and the sync goes on with the rest.
"""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.ports import LearnerPort, RolloutPort
from services.sync_phases import (
    MAX_BLIND_BREAKS,
    MAX_LEARNER_BREAKS,
    Answer,
    LeftOut,
    Reply,
    SyncPhase,
    entered,
    judge,
)
from services.sync_result import SyncResult
from shaping.errors import ChannelBroken, DeadlineMissed, EngineRefused, LessrlError, RecordError, RunFailed
from shaping.records import GroupRequest
from shaping.training import WeightChannel, WeightLayout, WeightManifest

__all__ = ["MAX_ABORT_SECONDS", "SyncResult", "WeightSync"]

Call = Coroutine[Any, Any, Any]

MAX_ABORT_SECONDS = 30.0


class _AttemptFailed(Exception):
    """Another attempt is needed, with the engines that are still in; says why."""


@dataclass(slots=True, kw_only=True)
class _Sync:
    """One sync under way.

    Args:
        ports: engines still in, by worker id.
        served: the version that each of them answered with, and `served_first` the one that it answered with first.
        to_release: engines left out since the last abort, perhaps paused.
    """

    policy_version: int
    ports: dict[str, RolloutPort]
    served: dict[str, int] = field(default_factory=dict)
    served_first: dict[str, int] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    to_release: list[RolloutPort] = field(default_factory=list)
    num_refusals: Counter[str] = field(default_factory=Counter)
    num_blind_breaks: int = 0
    num_learner_breaks: int = 0
    aborts: list[str] = field(default_factory=list)
    num_mismatches: int = 0
    manifest: WeightManifest | None = None
    phase_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def behind(self) -> dict[str, RolloutPort]:
        """Engines still in that do not serve the version; of these the first alone where together they fail blindly."""
        found = {name: port for name, port in self.ports.items() if self.served.get(name, -1) < self.policy_version}
        return dict(list(found.items())[:1]) if self.num_blind_breaks >= MAX_BLIND_BREAKS else found

    @property
    def num_bytes_taken(self) -> int:
        """Of weights that the engines still in did not have before."""
        took = [name for name in self.ports if self.served_first.get(name, self.policy_version) < self.policy_version]
        return len(took) * self.manifest.layout.num_bytes if self.manifest else 0

    @property
    def everyone(self) -> tuple[RolloutPort, ...]:
        """Whoever may be paused or hold staged weights."""
        return (*self.ports.values(), *self.to_release)


class WeightSync:
    """The only caller of the weight methods of learner and engines; one sync at a time.

    Args:
        workers_per_engine: processes of each engine that receive weights (tensor parallel size).
        deadline_seconds: of each phase.
        clock: seconds, for what is reported; deadlines follow the event loop.
        canary: the prompt that engines sample once a version is live; None leaves it out.
    """

    def __init__(
        self,
        *,
        learner: LearnerPort,
        workers_per_engine: int,
        deadline_seconds: float,
        clock: Callable[[], float],
        canary: GroupRequest | None = None,
    ) -> None:
        self._learner = learner
        self._workers_per_engine = workers_per_engine
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._canary = canary
        self._layout: WeightLayout | None = None
        # Receivers of the open channel in the order of their ranks, with the version that each served after its last
        # use. One that serves another by now was started again and is not connected. Empty: there is no channel to use.
        self._connected: dict[str, int] = {}
        self._phase = SyncPhase.IDLE
        self._phase_began = 0.0
        self._phase_ends = 0.0

    @property
    def phase(self) -> SyncPhase:
        return self._phase

    async def publish(
        self,
        policy_version: int,
        engines: Sequence[RolloutPort],
        *,
        on_live: Callable[[tuple[str, ...], tuple[LeftOut, ...]], None] | None = None,
        asks_canary: bool = True,
    ) -> SyncResult:
        """Make the learner's weights, which are those of `policy_version`, live on these engines.

        Args:
            on_live: told which engines serve the version as soon as they do, before they are asked for the canary, and
                which do not and must get no work.
            asks_canary: False where the engines are held, and would not answer.
        Raises:
            RunFailed: the learner failed or was too slow; every engine is un-paused and serves what it verified.
        """
        sync = _Sync(policy_version=policy_version, ports={port.worker_id: port for port in engines})
        difference = None
        # Asked before anything else: where another sync is under way, its phase is not ours to abort.
        entered(self._phase, SyncPhase.PROPOSE)
        try:
            while sync.behind:
                self._enter(sync, SyncPhase.PROPOSE)
                await self._attempt(sync)
            if sync.to_release:
                await self._abort(sync, tuple(sync.to_release))
            if sync.ports and on_live is not None:
                on_live(tuple(sync.ports), tuple(sync.left_out))
            if sync.ports and self._canary is not None and asks_canary:
                difference = await self._compare(sync, self._canary)
            if sync.to_release:
                await self._abort(sync, tuple(sync.to_release))
        except BaseException:
            await self._abort(sync, sync.everyone)
            raise
        finally:
            if self._phase is not SyncPhase.IDLE:
                self._enter(sync, SyncPhase.IDLE)
        return SyncResult(
            manifest=sync.manifest,
            live=tuple(sync.ports),
            left_out=tuple(sync.left_out),
            phase_seconds=dict(sync.phase_seconds),
            aborts=tuple(sync.aborts),
            num_mismatches=sync.num_mismatches,
            num_bytes=sync.num_bytes_taken,
            canary_difference_nats=difference,
        )

    async def _attempt(self, sync: _Sync) -> None:
        """From propose to commit, or to an abort."""
        try:
            await self._propose(sync)
            if sync.behind:
                self._enter(sync, SyncPhase.PREPARE)
                layout = await self._prepare(sync)
                self._enter(sync, SyncPhase.TRANSFER)
                manifest = await self._transfer(sync, layout)
                self._enter(sync, SyncPhase.VERIFY)
                await self._ask(sync, {name: port.verify_weights(manifest) for name, port in sync.behind.items()})
                self._enter(sync, SyncPhase.COMMIT)
                await self._commit(sync, manifest)
        except _AttemptFailed as failure:
            sync.aborts.append(str(failure))
            await self._abort(sync, sync.everyone)

    async def _propose(self, sync: _Sync) -> None:
        calls = {name: port.ping() for name, port in sync.ports.items()}
        sync.served, _ = await self._ask(sync, calls, self._learner.ping())
        sync.served_first = sync.served | sync.served_first
        for name, version in tuple(sync.served.items()):
            if version > sync.policy_version:
                cause = f"it serves version {version}, newer than the learner's {sync.policy_version}"
                self._leave_out(sync, LeftOut(worker_id=name, phase=self._phase, cause=cause))
        if not sync.ports:
            raise _AttemptFailed(f"{self._what(sync)}: no engine is older than it")

    async def _prepare(self, sync: _Sync) -> WeightLayout:
        """The channel of exactly the engines that are behind, in the order of their ranks."""
        wanted = {name: sync.served[name] for name in sync.behind}
        if self._layout is not None and tuple(wanted.items()) == tuple(self._connected.items()):
            return self._layout
        self._connected = {}
        self._layout = await self._ask_learner(sync, self._learner.weight_layout())
        num_receivers = len(wanted) * self._workers_per_engine
        channel: WeightChannel = await self._ask_learner(sync, self._learner.open_channel(num_receivers))
        joining = {
            name: port.connect_weights(dataclasses.replace(channel, first_rank=1 + index * self._workers_per_engine))
            for index, (name, port) in enumerate(sync.behind.items())
        }
        await self._ask(sync, joining, self._learner.connect_weights(channel))
        if len(sync.behind) < len(wanted):
            raise _AttemptFailed(f"{self._what(sync)}: {sync.left_out[-1]}")
        self._connected = wanted
        return self._layout

    async def _transfer(self, sync: _Sync, layout: WeightLayout) -> WeightManifest:
        connected, self._connected = self._connected, {}
        staging = {name: port.stage_weights(layout, sync.policy_version) for name, port in sync.behind.items()}
        _, manifest = await self._ask(sync, staging, self._learner.send_weights(sync.policy_version))
        self._connected = connected if connected.keys() <= sync.ports.keys() else {}
        assert isinstance(manifest, WeightManifest)
        return manifest

    async def _commit(self, sync: _Sync, manifest: WeightManifest) -> None:
        sync.manifest = manifest
        done, _ = await self._ask(sync, {name: port.commit_weights(manifest) for name, port in sync.behind.items()})
        sync.served.update(dict.fromkeys(done, sync.policy_version))
        self._connected = dict.fromkeys(self._connected, sync.policy_version)

    async def _compare(self, sync: _Sync, canary: GroupRequest) -> float | None:
        """Largest |learner - engine| log-prob on the canary; None when no engine is left to answer it."""
        self._enter(sync, SyncPhase.CANARY)
        try:
            answers, _ = await self._ask(sync, {name: port.canary(canary) for name, port in sync.ports.items()})
        except _AttemptFailed:
            return None
        difference: float = await self._ask_learner(sync, self._learner.score_canary(tuple(answers.values())))
        return difference

    async def _abort(self, sync: _Sync, ports: Sequence[RolloutPort]) -> None:
        """Drop what is staged and un-pause, whatever the others do; an engine that hangs keeps nobody waiting long."""
        self._enter(sync, SyncPhase.ABORT)
        calls = [call for port in ports for call in (port.discard_staged_weights(), port.resume())]
        tasks = [asyncio.ensure_future(call) for call in calls]
        if tasks:
            await asyncio.wait(tasks, timeout=min(self._deadline_seconds, MAX_ABORT_SECONDS))
        _drop(tasks)
        sync.to_release.clear()

    # -- one phase ----------------------------------------------------------------------------------------------------

    def _enter(self, sync: _Sync, phase: SyncPhase) -> None:
        entered_at = self._clock()
        following = entered(self._phase, phase)
        if self._phase is not SyncPhase.IDLE:
            spent = sync.phase_seconds.get(self._phase, 0.0)
            sync.phase_seconds[self._phase] = spent + entered_at - self._phase_began
        self._phase, self._phase_began = following, entered_at
        self._phase_ends = asyncio.get_running_loop().time() + self._deadline_seconds

    async def _ask(
        self, sync: _Sync, calls: Mapping[str, Call], learner: Call | None = None
    ) -> tuple[dict[str, Any], Any]:
        """Ask engines, and the learner at the same time, and judge their answers.

        Returns:
            Results of the engines still in, and of the learner.
        Raises:
            _AttemptFailed: not every engine still in is done, or the channel broke.
            RunFailed: the learner failed or gave no answer in time.
        """
        tasks = {name: asyncio.ensure_future(call) for name, call in calls.items()}
        own = None if learner is None else asyncio.ensure_future(learner)
        try:
            await self._wait(tasks.values(), own)
            replies = {name: self._reply(sync, task) for name, task in tasks.items()}
            broken = "" if own is None else self._learner_break(sync, own, replies)
        finally:
            _drop([*tasks.values(), *([own] if own else [])])
        judgement = judge(self._phase, replies, sync.num_refusals, learner_broke=bool(broken))
        sync.num_refusals.update(judgement.blamed)
        sync.num_blind_breaks += judgement.is_blind
        sync.num_learner_breaks += judgement.suspects_learner
        if self._phase is SyncPhase.VERIFY:
            sync.num_mismatches += len(judgement.blamed)
        for each in judgement.left_out:
            self._leave_out(sync, each)
        if sync.num_learner_breaks >= MAX_LEARNER_BREAKS:
            raise RunFailed(role="learner", cause=f"{self._what(sync)}: {broken}")
        if not judgement.goes_on or broken:
            causes = [f"{name}: {reply.cause}" for name, reply in replies.items() if reply.answer is not Answer.DONE]
            causes += [f"learner: {broken}"] if broken else []
            raise _AttemptFailed(f"{self._what(sync)}: {'; '.join(causes)}")
        results = {name: task.result() for name, task in tasks.items() if name in sync.ports}
        return results, None if own is None else own.result()

    async def _ask_learner(self, sync: _Sync, call: Call) -> Any:
        """Ask the learner alone.

        Raises:
            RunFailed: it failed or gave no answer in time.
        """
        own = asyncio.ensure_future(call)
        try:
            await self._wait((), own)
            broken = self._learner_break(sync, own, {})
        finally:
            _drop([own])
        if broken:
            raise RunFailed(role="learner", cause=f"{self._what(sync)}: {broken}")
        return own.result()

    async def _wait(self, tasks: Iterable[asyncio.Future[Any]], own: asyncio.Future[Any] | None) -> None:
        """Until all are done, the phase is over, or the learner failed: nothing can then come of the rest."""
        waiting = {*tasks, *([own] if own else [])}
        while waiting:
            seconds = self._phase_ends - asyncio.get_running_loop().time()
            done, waiting = await asyncio.wait(waiting, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_EXCEPTION)
            if not done or (own in done and not isinstance(own.exception(), ChannelBroken | None)):
                return

    def _reply(self, sync: _Sync, task: asyncio.Future[Any]) -> Reply:
        if not task.done():
            return Reply(answer=Answer.LATE, cause=self._late(sync))
        failure = task.exception()
        if failure is None:
            return Reply(answer=Answer.DONE)
        if isinstance(failure, EngineRefused):
            return Reply(answer=Answer.REFUSED, cause=str(failure))
        if isinstance(failure, ChannelBroken):
            return Reply(answer=Answer.BROKEN, cause=str(failure))
        if isinstance(failure, LessrlError):
            return Reply(answer=Answer.DEAD, cause=failure.cause if isinstance(failure, RunFailed) else str(failure))
        raise failure

    def _learner_break(self, sync: _Sync, own: asyncio.Future[Any], replies: Mapping[str, Reply]) -> str:
        """What broke at the learner's end of the channel, or "".

        Raises:
            RunFailed: it failed in another way, or gave no answer.
        """
        if not own.done():
            late = [name for name, reply in replies.items() if reply.answer is Answer.LATE]
            others = f"; no answer either from {', '.join(late)}" if late else ""
            raise DeadlineMissed(role="learner", cause=self._late(sync) + others)
        failure = own.exception()
        if isinstance(failure, RecordError):
            raise RunFailed(role="learner", cause=f"{self._what(sync)}: {failure}") from failure
        if isinstance(failure, ChannelBroken):
            return str(failure)
        if failure is not None:
            raise failure
        return ""

    def _leave_out(self, sync: _Sync, each: LeftOut) -> None:
        if each.worker_id in self._connected:
            # A channel with an end that nobody listens at is of no use.
            self._connected = {}
        sync.to_release.append(sync.ports.pop(each.worker_id))
        sync.left_out.append(each)

    def _late(self, sync: _Sync) -> str:
        return f"{self._what(sync)} took longer than {self._deadline_seconds:g} s (run.deadlines.weights_seconds)"

    def _what(self, sync: _Sync) -> str:
        return f"{self._phase} of version {sync.policy_version}"


def _drop(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what is still under way. Failures are asked for, or asyncio would report them as never looked at."""
    for each in tasks:
        if not each.cancel() and not each.cancelled():
            each.exception()
