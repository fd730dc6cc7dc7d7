"""Calls that begin a run, or go on with one that has ended. They write what is to be, no more."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from services.checkpoints.store import CheckpointStore
from services.control.calls import PauseRequest
from services.control.creation import (
    CheckedRecipe,
    CreateRequest,
    DryRun,
    check_request,
    claim_directory,
    new_facts,
)
from services.control.draft import Cause, Draft, RunFacts
from services.control.effects import LATEST, move
from services.control.idempotency import Claim, IdempotencyKeys, KeyedCall
from services.control.machine import Accepted, Refused, begin_attempt, pause
from services.control.proof import doubt_of
from services.control.records import Caller, StoreError
from services.control.run import RunControl
from services.plain_data import plain_data
from services.run_dir import CHECKPOINTS_DIR

RUNS_PATH = "/v1/runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A run that is being started. `is_new`: not the answer to a call that was made before."""

    run: RunControl
    is_new: bool


class Runs(Protocol):
    """The runs of a control plane."""

    def run(self, run_id: str) -> RunControl | None: ...

    @property
    def unfinished(self) -> tuple[RunControl, ...]: ...

    def hold(self, facts: RunFacts) -> RunControl:
        """Take up a run that the store has, or is about to have."""
        ...

    def forget(self, run_id: str) -> None: ...


class RunStarter:
    """Begins runs, one after another.

    Args:
        clock: seconds since the epoch.
        runs_dir: where new runs get their directories; None: it starts none.
    """

    def __init__(self, runs: Runs, keys: IdempotencyKeys, *, clock: Callable[[], float], runs_dir: Path | None) -> None:
        self._runs = runs
        self._keys = keys
        self._clock = clock
        self._runs_dir = runs_dir
        self._lock = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def create(self, request: CreateRequest, caller: Caller, key: str) -> Created | DryRun | Refused:
        """Start a run, or go on with one; "" is no key.

        Raises:
            StoreError: nothing was begun.
        """
        if request.dry_run:
            return await self._dry_run(request)
        # To its end, even where the caller goes away: a directory without a run would be left behind.
        return await self._carried_out(self._create_once(request, caller, key))

    async def _carried_out(self, work: Coroutine[Any, Any, Created | Refused]) -> Created | Refused:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _create_once(self, request: CreateRequest, caller: Caller, key: str) -> Created | Refused:
        if not key:
            return await self._create(request, caller, None)
        call = KeyedCall(key=key, caller=caller, path=RUNS_PATH, body=plain_data(asdict(request)))
        async with self._keys.claim(call) as claim:
            if isinstance(claim, Refused):
                return claim
            if isinstance(claim, Claim):
                return await self._create(request, caller, claim)
            run = self._runs.run(str(claim.body["run_id"]))
            gone = Refused(slug="run-not-found", detail="the run that this idempotency key began was deleted")
            return gone if run is None else Created(run=run, is_new=False)

    async def _dry_run(self, request: CreateRequest) -> DryRun | Refused:
        checked = await asyncio.to_thread(check_request, request, Path.cwd())
        if isinstance(checked, Refused):
            return checked
        return DryRun(config=checked.recipe.as_dict(), plan=checked.plan)

    async def _create(self, request: CreateRequest, caller: Caller, claim: Claim | None) -> Created | Refused:
        if self._runs_dir is None:
            detail = "this control plane starts no runs; begin one with `lessrl train`, or start it with `lessrl serve`"
            return Refused(slug="cannot-start-runs", detail=detail)
        checked = None
        if request.resume_from is None:
            checked = await asyncio.to_thread(check_request, request, Path.cwd())
        if isinstance(checked, Refused):
            return checked
        async with self._lock:
            active = next((run for run in self._runs.unfinished if run.record.launched), None)
            if active is not None:
                detail = (
                    f"one run at a time is active, {active.record.run_id} is {active.life.state}; wait or cancel it"
                )
                return Refused(slug="run-active", detail=detail)
            if checked is None:
                return await self._go_on(request, caller, claim)
            return await self._begin(request, checked, caller, claim, self._runs_dir)

    async def _begin(
        self, request: CreateRequest, checked: CheckedRecipe, caller: Caller, claim: Claim | None, runs_dir: Path
    ) -> Created | Refused:
        description = await asyncio.to_thread(claim_directory, checked, runs_dir)
        if isinstance(description, Refused):
            return description
        run = self._runs.hold(new_facts(description, now=self._clock()))

        async def work(draft: Draft) -> None:
            draft.record = replace(
                draft.record,
                config_text=request.config_text or "",
                labels=dict(request.labels),
                notes=request.notes,
                launched=True,
                launch_from="",
            )
            draft.log("run_created", f"by {caller.name}")
            _begin_paused(draft, request, caller)
            _keep(draft, claim)

        try:
            await run.decide(work)
        except StoreError:
            self._runs.forget(description.run_id)
            await asyncio.to_thread(shutil.rmtree, description.run_dir, ignore_errors=True)
            raise
        return Created(run=run, is_new=True)

    async def _go_on(self, request: CreateRequest, caller: Caller, claim: Claim | None) -> Created | Refused:
        resume = request.resume_from
        assert resume is not None, "there is no recipe"
        run = self._runs.run(resume.run_id)
        if run is None:
            return Refused(slug="run-not-found", detail=f"no run {resume.run_id}")
        name = resume.checkpoint or LATEST
        if missing := await asyncio.to_thread(_missing, Path(run.description.run_dir), name):
            return Refused(slug="checkpoint-not-found", detail=missing)

        async def work(draft: Draft) -> Refused | None:
            record = draft.record
            if not record.life.state.is_terminal:
                detail = f"cannot go on with a run that is {record.life.state}: it has not ended"
                return Refused(slug="invalid-transition", detail=detail)
            draft.record = replace(
                record,
                # The process that comes is the next attempt, which is counted here.
                attempt=record.attempt + 1,
                link_id="",
                failure=None,
                labels={**record.labels, **request.labels},
                launched=True,
                launch_from=name,
                launch_overrides=dict(request.overrides),
            )
            draft.log("run_continued", f"by {caller.name}, from {name}", details={"checkpoint": name})
            move(draft, begin_attempt(record.life), Cause(reason=f"continued from {name}", by=caller.name))
            _begin_paused(draft, request, caller)
            _keep(draft, claim)
            return None

        refused, _ = await run.decide(work)
        return refused or Created(run=run, is_new=True)


def _begin_paused(draft: Draft, request: CreateRequest, caller: Caller) -> None:
    if not request.start_paused:
        return
    # Nothing has been trained that a checkpoint would have to keep.
    wanted = PauseRequest(checkpoint=False, reason="to start paused")
    answer = pause(draft.record.life, wanted)
    assert isinstance(answer, Accepted), "a run that is yet to start can be paused"
    move(draft, answer, Cause(reason=wanted.reason, by=caller.name, request=plain_data(asdict(wanted))))


def _keep(draft: Draft, claim: Claim | None) -> None:
    if claim is not None:
        draft.answer(claim.answer(201, {"run_id": draft.record.run_id}))


def _missing(run_dir: Path, name: str) -> str:
    """Why a run cannot go on from a checkpoint; "" where nothing speaks against it here."""
    if name != LATEST:
        return doubt_of(run_dir, name)
    if run_dir.is_dir() and not CheckpointStore(run_dir / CHECKPOINTS_DIR).list():
        return f"there must be a checkpoint to go on from, found none in {CHECKPOINTS_DIR}/"
    return ""
