"""One run of the control plane: what users and its process may call. Each call decides with the pure machine.

Users call in (the HTTP handlers), the run's process reports in. A call only writes an intent, which the process fetches
and acts on. Knows neither HTTP nor Ray.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.draft import Cause, Draft
from services.control.effects import move
from services.control.idempotency import Claim
from services.control.intake import take_in
from services.control.live_config import ConfigAnswer, add_generation, check_patch
from services.control.machine import (
    Accepted,
    OperationKind,
    Refused,
    RunLife,
    begin_attempt,
    cancel,
    pause,
    resume,
)
from services.control.records import Caller, Operation
from services.control.run_memory import RunMemory
from services.control.tasks import WORKER_TASKS, begin_task, refuse_task
from services.plain_data import plain_data
from services.reports import ControlReport, EvaluationReport, Intent, RunDescription, RunReport, StepReport


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswer:
    """A call that was in order, and the operation that answers it; none where nothing had to be done."""

    accepted: Accepted
    operation: Operation | None


class RunControl(RunMemory):
    """The calls on one run. Each raises StoreError where the store does not take it; nothing has changed then."""

    # -- calls of users -----------------------------------------------------------------------------------------------

    async def pause(self, request: PauseRequest, caller: Caller) -> CallAnswer | Refused:
        """Ask the run to pause."""
        asked = replace(request, reason=self._masked(request.reason))
        return await self._call(lambda life: pause(life, asked), asked, caller)

    async def resume(self, request: ResumeRequest, caller: Caller) -> CallAnswer | Refused:
        """Ask the run to go on."""
        asked = replace(request, reason=self._masked(request.reason))
        return await self._call(lambda life: resume(life, asked), asked, caller)

    async def cancel(self, request: CancelRequest, caller: Caller) -> CallAnswer | Refused:
        """Ask the run to end."""
        asked = replace(request, reason=self._masked(request.reason))
        return await self._call(lambda life: cancel(life, asked), asked, caller)

    async def relabel(
        self, *, name: str | None, labels: Mapping[str, str] | None, notes: str | None, caller: Caller
    ) -> None:
        """Change what a person calls it; None leaves a member as it is."""

        async def work(draft: Draft) -> None:
            record = draft.record
            draft.record = replace(
                record,
                description=record.description if name is None else replace(record.description, name=name),
                labels=record.labels if labels is None else self._storage.redactor.data(labels),
                notes=record.notes if notes is None else self._masked(notes),
            )
            if draft.record != record:
                draft.log("run_relabelled", f"by {caller.name}")

        await self.decide(work)

    async def change_config(self, patch: Mapping[str, Any], if_match: int, caller: Caller) -> ConfigAnswer | Refused:
        """Change live keys: a merge-patch document against the config of generation `if_match`."""

        async def work(draft: Draft) -> ConfigAnswer | Refused:
            record = draft.record
            if record.life.state.is_terminal:
                return Refused(slug="run-finished", detail=f"cannot change the config: the run is {record.life.state}")
            if record.config_generation != if_match:
                detail = f"the config has generation {record.config_generation}, the change is for {if_match}; read it"
                return Refused(slug="precondition-failed", detail=f"{detail} again")
            checked = await asyncio.to_thread(check_patch, record, self._facts.configs, patch)
            return checked if isinstance(checked, Refused) else add_generation(draft, checked, caller.name)

        answer, _ = await self.decide(work)
        return answer

    async def start_task(
        self, kind: OperationKind, options: Mapping[str, Any], caller: Caller, *, claim: Claim | None = None
    ) -> Operation | Refused:
        """Ask for something beside training, once; one like it that is open answers in its place.

        Args:
            claim: of the call's idempotency key; the answer is kept as {"operation_id"}.
        """

        async def work(draft: Draft) -> Operation | Refused:
            refused = refuse_task(draft.record.life.state, kind, options, frozenset(self.workers))
            if refused is not None:
                return refused
            # The run's process writes it into its files, which no control plane masks.
            asked = self._storage.redactor.data(plain_data(options))
            task = begin_task(draft, kind, asked, Cause(by=caller.name))
            if claim is not None:
                draft.answer(claim.answer(202, {"operation_id": task.operation_id}))
            return task

        answer, facts = await self.decide(work)
        return answer if isinstance(answer, Refused) else facts.operations[answer.operation_id]

    def _masked(self, text: str) -> str:
        """What a user wrote, as it is kept: a reason is also part of the life of the run and of its intent."""
        return self._storage.redactor.text(text)

    async def _call(
        self,
        decision: Callable[[RunLife], Accepted | Refused],
        request: PauseRequest | ResumeRequest | CancelRequest,
        caller: Caller,
    ) -> CallAnswer | Refused:
        async def work(draft: Draft) -> Accepted | Refused:
            answer = decision(draft.record.life)
            if isinstance(answer, Accepted):
                cause = Cause(reason=request.reason, by=caller.name, request=plain_data(asdict(request)))
                move(draft, answer, cause)
            return answer

        answer, facts = await self.decide(work)
        if isinstance(answer, Refused):
            return answer
        return CallAnswer(accepted=answer, operation=facts.latest(answer.operation) if answer.operation else None)

    # -- calls of the run's process -----------------------------------------------------------------------------------

    async def begin(self, description: RunDescription, *, link_id: str, config_text: str, resumed: bool) -> None:
        """A process of the run begins, the first or another one; the same one again changes nothing.

        Args:
            link_id: of the process.
            resumed: whether it goes on with what an earlier one trained.
        """
        self.hear()

        async def work(draft: Draft) -> None:
            record = draft.record
            if record.link_id == link_id:
                return
            attempt = record.attempt + 1 if record.link_id else record.attempt
            draft.record = replace(
                record,
                # A name that a user gave it stays.
                description=replace(description, name=record.description.name),
                config_text=config_text or record.config_text,
                link_id=link_id,
                link_sequence=0,
                attempt=attempt,
                failure=None,
                launch_from=None,
            )
            if draft.record.attempt == 1:
                draft.log("run_registered", f"{description.name}: {description.algorithm} on {description.model}")
            draft.end_tasks(WORKER_TASKS, "the process of the run ended first")
            draft.seen = replace(draft.seen, workers={}, buffer=None)
            move(draft, begin_attempt(record.life), Cause(reason=f"attempt {attempt}"))
            draft.log("attempt_started", f"attempt {attempt}", details={"attempt": attempt, "resumed": resumed})

        await self.decide(work)

    async def take_in(self, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        """Take in reports of the process, each once.

        Args:
            first_sequence: number of the first one; a process numbers what it says from 1.
        Returns:
            The number that must come next.
        """
        self.hear()
        following = first_sequence + len(reports)

        async def work(draft: Draft) -> None:
            last = draft.record.link_sequence
            if draft.record.link_id != link_id or following <= last + 1:
                return
            if first_sequence > last + 1:
                missed = first_sequence - last - 1
                message = f"{missed} reports never came; the run's own files have them"
                draft.log("reports_missed", message, details={"reports": missed})
                draft.num_missed = missed
            for report in reports[max(0, last + 1 - first_sequence) :]:
                await take_in(draft, report)
            draft.record = replace(draft.record, link_sequence=following - 1)

        _, facts = await self.decide(work)
        # One that another process has replaced is listened to no more, and must not say the same for ever.
        return facts.record.link_sequence + 1 if facts.record.link_id == link_id else following

    async def remember(self, reports: Sequence[RunReport]) -> None:
        """What earlier processes reported, in place of all that is known of it: counters and curves go on from there,
        its events do not return.
        """
        steps = [each for each in reports if isinstance(each, StepReport)]
        evaluations = [each for each in reports if isinstance(each, EvaluationReport)]

        async def work(draft: Draft) -> None:
            draft.record = replace(
                draft.record,
                step=steps[-1].step if steps else 0,
                policy_version=steps[-1].policy_version if steps else 0,
                tokens_generated=sum(each.num_response_tokens for each in steps),
            )
            last_step, last_evaluation = steps[-1] if steps else None, evaluations[-1] if evaluations else None
            draft.seen = replace(draft.seen, last_step=last_step, last_evaluation=last_evaluation)
            draft.forgets = True
            draft.reports.extend(reports)

        await self.decide(work)

    async def intent_after(self, generation: int) -> Intent:
        """The intent once its generation is another than the given one, which counts as observed; waits."""
        self._observed = max(self._observed, min(generation, self.intent.generation))
        self._facts = self._observing(self._facts)
        self.hear()
        # Another, not a higher one: a store that was lost begins to count anew.
        await self._bell.wait_until(lambda: self.intent.generation != generation)
        self.hear()
        return self.intent
