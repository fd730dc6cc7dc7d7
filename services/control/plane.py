"""The control plane: any number of runs, their history and their store; at most one of those that it starts is active.

A run's process registers and reports, users call, time passes (reconciler.py). All that must outlive this process is in
the store, and `open` goes on from it. Knows neither HTTP nor Ray.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from services.control.creation import CreateRequest, DryRun, ResumeFrom, new_facts
from services.control.draft import RunFacts
from services.control.idempotency import Claim, IdempotencyKeys, KeyedCall
from services.control.launcher import Exporter, RunLauncher
from services.control.machine import OperationKind, Refused
from services.control.records import (
    AuditLine,
    Caller,
    Change,
    ControlStore,
    LoggedEvent,
    Operation,
    RunRecord,
    StoreError,
)
from services.control.recovery import recover, recover_last
from services.control.redaction import Redactor
from services.control.run import RunControl
from services.control.starting import Created, RunStarter
from services.control.storage import Storage
from services.metrics.run_metrics import CombinedMetrics, RunMetrics
from services.reports import ControlReport, Intent, RunDescription, RunReport
from services.run_dir import CHECKPOINTS_DIR

__all__ = ["ControlPlane", "CreateRequest", "Created", "DryRun", "ResumeFrom"]

SHOWN_SECONDS = 3600.0
"""How long Prometheus is shown a run after its end."""
MAX_TICK_SECONDS = 3.0
"""Deadlines that nobody has looked at for so long are not watched."""


class ControlPlane:
    """Not thread-safe: use it on one event loop. Call `open` first and `close` last.

    Args:
        store: this control plane's alone, which closes it.
        clock: seconds since the epoch.
        launcher: starts processes of runs; None where it starts none.
        exporter: exports checkpoints; None where it exports none.
        runs_dir: where the runs that it starts get their directories; None where it starts none.
        redactor: what it knows leaves nowhere; None: the secrets of this process's environment.

    Attributes:
        redactor: for whoever shows anything.
        keys: idempotency keys.
        ticked_at: when deadlines were last looked at; None before the first time.
        store_trouble: what is wrong with the store; "" where nothing is.
    """

    def __init__(
        self,
        store: ControlStore,
        *,
        clock: Callable[[], float],
        launcher: RunLauncher | None = None,
        exporter: Exporter | None = None,
        runs_dir: Path | None = None,
        name: str = "lessrl",
        redactor: Redactor | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.launcher = launcher
        self.exporter = exporter
        self.redactor = redactor or Redactor.from_environment(os.environ)
        self.ticked_at: float | None = None
        self._storage = Storage(store, self.redactor)
        self.keys = IdempotencyKeys(self._storage, clock=clock)
        self._runs: dict[str, RunControl] = {}
        self._runs_dir = runs_dir if launcher is not None else None
        self._starter = RunStarter(self, self.keys, clock=clock, runs_dir=self._runs_dir)
        self._busy_at = clock()
        self._version = _installed_version()
        self._combined = CombinedMetrics(self._shown_metrics)

    async def open(self) -> None:
        """Go on from what the store has.

        Raises:
            StoreError: it cannot be read.
        """
        for record in await self._storage.read(lambda store: store.runs()):
            run = self.hold(await self._storage.read(partial(_facts_of, record=record)))
            if record.life.state.is_terminal:
                run.see(await asyncio.to_thread(recover_last, record.description))
            else:
                found = await asyncio.to_thread(recover, record.description)
                run.see(found.seen, found.reports)

    async def close(self) -> None:
        """End; what was begun is written first."""
        for run in self._runs.values():
            await run.settle()
        await self._storage.close()

    # -- runs ---------------------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> RunControl | None:
        return self._runs.get(run_id)

    def runs(self) -> tuple[RunControl, ...]:
        """The newest first."""
        return tuple(reversed(self._runs.values()))

    @property
    def unfinished(self) -> tuple[RunControl, ...]:
        """Runs that have not ended, the newest first."""
        return tuple(run for run in self.runs() if not run.life.state.is_terminal)

    @property
    def active(self) -> RunControl | None:
        """The newest run that has not ended; None where all have."""
        return next(iter(self.unfinished), None)

    @property
    def can_launch(self) -> bool:
        """Whether it can start runs."""
        return self._runs_dir is not None

    def hold(self, facts: RunFacts) -> RunControl:
        """Take up a run that the store has, or is about to have."""
        run = RunControl(facts, self._storage, clock=self.clock, version=self._version)
        self._runs[facts.record.run_id] = run
        self.redactor.learn_from_recipe(facts.record.description.recipe)
        return run

    def forget(self, run_id: str) -> None:
        """Let go of a run that the store does not have."""
        self._runs.pop(run_id, None)

    async def create(self, request: CreateRequest, caller: Caller, key: str = "") -> Created | DryRun | Refused:
        """Start a run, or go on with one that has ended.

        Args:
            key: of idempotency; "" for none.
        Raises:
            StoreError: nothing was begun.
        """
        return await self._starter.create(request, caller, key)

    async def delete(self, run_id: str, caller: Caller, delete_checkpoints: bool) -> Refused | None:
        """Forget a run that has ended; its directory stays, without its checkpoints where that is asked for."""
        run = self._runs.get(run_id)
        if run is None:
            return Refused(slug="run-not-found", detail=f"no run {run_id}")
        if not run.life.state.is_terminal:
            return Refused(slug="invalid-transition", detail=f"cannot forget a run that is {run.life.state}; cancel it")
        await run.settle()
        await self._storage.read(lambda store: store.delete_run(run_id))
        self.forget(run_id)
        if delete_checkpoints:
            await asyncio.to_thread(_remove_checkpoints, Path(run.description.run_dir))
        del caller
        return None

    async def start_task(
        self, run_id: str, kind: OperationKind, options: Mapping[str, Any], caller: Caller, key: str = ""
    ) -> Operation | Refused:
        """Ask for something beside training, once, of a run or of one of its checkpoints.

        Args:
            key: of idempotency; "" for none.
        """
        run = self._runs.get(run_id)
        if run is None:
            return Refused(slug="run-not-found", detail=f"no run {run_id}")
        if kind is OperationKind.EXPORT and self.exporter is None:
            return Refused(slug="cannot-export", detail="this control plane exports nothing; use `lessrl export`")
        if not key:
            return await run.start_task(kind, options, caller)
        call = KeyedCall(key=key, caller=caller, path=f"{run_id}/{kind}", body=options)
        async with self.keys.claim(call) as claim:
            if isinstance(claim, Refused):
                return claim
            if isinstance(claim, Claim):
                return await run.start_task(kind, options, caller, claim=claim)
            operation = await self.operation(run_id, str(claim.body["operation_id"]))
            return operation or Refused(slug="run-not-found", detail="the operation of this key is forgotten")

    # -- processes of runs --------------------------------------------------------------------------------------------

    async def register(
        self, description: RunDescription, *, link_id: str, config_text: str = "", resumed: bool = False
    ) -> RunControl:
        """A process of a run begins: of a new run, or the next attempt of one. The same process again changes nothing.

        Args:
            link_id: of the process, any string of its own.
            resumed: whether an earlier process of the run has trained, which this control plane may not know of.
        Raises:
            StoreError: it is not registered.
        """
        self._busy_at = self.clock()
        run = self._runs.get(description.run_id)
        is_new = run is None
        if run is None:
            run = self.hold(new_facts(description, now=self.clock()))
        self.redactor.learn_from_recipe(description.recipe)
        try:
            await run.begin(description, link_id=link_id, config_text=config_text, resumed=resumed)
        except StoreError:
            if is_new and not run.record.link_id:
                self.forget(description.run_id)
            raise
        return run

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        """Take in what a run's process says, each report once; returns the number that must come next.

        Raises:
            StoreError: none of them was taken in.
        """
        return await self._known(run_id).take_in(link_id, first_sequence, reports)

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None:
        """What earlier processes of a run reported; for right after `register`."""
        await self._known(run_id).remember(reports)

    async def intent_after(self, run_id: str, generation: int) -> Intent:
        """What is wanted of a run once that is something else than what this generation said; waits."""
        return await self._known(run_id).intent_after(generation)

    def _known(self, run_id: str) -> RunControl:
        run = self._runs.get(run_id)
        if run is None:
            raise KeyError(f"a run must register first, found none with the id {run_id}")
        return run

    # -- what is past -------------------------------------------------------------------------------------------------

    async def events_after(
        self, run_id: str, after: int, kinds: Sequence[str] = (), limit: int = 100
    ) -> Sequence[LoggedEvent]:
        """Events of a run numbered above `after`, oldest first; no kinds means all."""
        run = self._runs.get(run_id)
        recent = run.recent if run is not None else ()
        if recent and after >= recent[0].sequence - 1:
            newer = [each for each in recent if each.sequence > after and (not kinds or each.kind in kinds)]
            return newer[:limit]
        return await self._storage.read(lambda store: store.events(run_id, after=after, kinds=kinds, limit=limit))

    async def wait_for_events(self, run_id: str, after: int) -> None:
        """Until a run has an event numbered above `after`."""
        await self._known(run_id).wait_for_events(after)

    @property
    def last_sequence(self) -> int:
        """Of the newest event of all."""
        return self._storage.last_sequence

    async def operations(self, run_id: str, *, after: str = "", limit: int = 100) -> Sequence[Operation]:
        """Operations of a run, oldest first, from behind the one named `after`."""
        return await self._storage.read(lambda store: store.operations(run_id, after=after, limit=limit))

    async def operation(self, run_id: str, operation_id: str) -> Operation | None:
        return await self._storage.read(lambda store: store.operation(run_id, operation_id))

    async def record_audit(self, line: AuditLine) -> None:
        """Keep a line of the audit log, secrets masked."""
        self._busy_at = self.clock()
        await self._storage.commit(Change(audit=(line,)))

    async def audit(self, *, before: int = 0, limit: int = 100) -> Sequence[tuple[int, AuditLine]]:
        """The newest first, with their numbers; 0 begins with the newest."""
        return await self._storage.read(lambda store: store.audit(before=before, limit=limit))

    # -- upkeep -------------------------------------------------------------------------------------------------------

    @property
    def registry(self) -> CollectorRegistry:
        """What Prometheus is shown: runs that have not ended, and those that ended lately."""
        return self._combined.registry

    @property
    def checks(self) -> dict[str, Callable[[], str]]:
        """What must hold for calls to have an effect: "" or what is wrong, by name."""
        return {"store": lambda: self._storage.problem, "reconciler": self._late}

    @property
    def is_idle_since(self) -> float | None:
        """Since when there is nothing to do; None while a run has not ended."""
        ends = [run.record.finished_at or 0.0 for run in self._runs.values()]
        return None if self.unfinished else max([self._busy_at, *ends])

    async def probe(self) -> None:
        """Try the store; `checks` says what came of it."""
        self._storage.problem = await self._storage.ask(lambda store: store.probe())

    async def prune(self) -> None:
        """Forget what is too old to be kept."""
        now = self.clock()
        await self._storage.read(lambda store: store.prune(now=now))

    def _late(self) -> str:
        if self.ticked_at is None:
            return "deadlines are not watched yet"
        late = self.clock() - self.ticked_at
        return "" if late <= MAX_TICK_SECONDS else f"deadlines were last looked at {late:.0f} s ago"

    def _shown_metrics(self) -> list[RunMetrics]:
        oldest = self.clock() - SHOWN_SECONDS
        shown = (run for run in self._runs.values() if (run.record.finished_at or oldest) >= oldest)
        return [run.metrics for run in shown if run.metrics is not None]


def _facts_of(store: ControlStore, *, record: RunRecord) -> RunFacts:
    """The open operations of a run and the newest of each kind, with its live changes."""
    operations: dict[str, Operation] = {}
    after = ""
    while page := store.operations(record.run_id, after=after, limit=500):
        operations.update({each.operation_id: each for each in page})
        after = page[-1].operation_id
    return RunFacts(record=record, operations=operations, configs=store.configs(record.run_id)).kept()


def _remove_checkpoints(run_dir: Path) -> None:
    path = run_dir / CHECKPOINTS_DIR
    # A link leads somewhere that is not this run's to remove.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def _installed_version() -> str:
    try:
        return version("lessrl")
    except PackageNotFoundError:
        return "unknown"
