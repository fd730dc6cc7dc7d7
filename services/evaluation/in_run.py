"""Evaluations of a run: when they are due, on which engines, and how their result reaches the run.

Two ways. At the step border, on all engines, while training waits: the engines serve the version until it is answered.
Beside training, on engines that are lent (`evaluation.num_workers`): these keep the version that they had and take no
weights until they are given back, while the others go on with the run. After the last step nothing trains, and all
engines answer.

In a pause, a drain waits for an evaluation; a freeze and an abort do not: its requests are held, or given up and asked
for again, by the same engines with the same weights. Where these are given back meanwhile, one beside training is lost.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from services.bell import Bell
from services.evaluation.evaluator import AnswerStore, Evaluator
from services.ports import RoundHandle
from services.reports import EvaluationReport, RunReport
from services.stopwatch import Clock
from services.workers import Workers
from shaping.config import RewardConfig
from shaping.errors import RunFailed, UserError
from shaping.evaluation.answers import GradedResponse
from shaping.records import GroupRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the answers of one version amount to.

    Args:
        accuracy: mean over the sets of the share of decided answers that are right; None where nothing was decided.
        num_answers, num_decided: all answers, and those with a verdict.
        metrics: by full name: `val-core/<set>/acc/mean@32`.
    """

    accuracy: float | None
    num_problems: int
    num_answers: int
    num_decided: int
    mean_response_tokens: float
    metrics: dict[str, float]


class EvaluationBook(Protocol):
    """Where a run keeps the answers of each version, and what is read out of them."""

    def answers(self, policy_version: int) -> AbstractContextManager[AnswerStore]:
        """The answers to this version; those that an earlier process of the run got are there already."""
        ...

    def is_measured(self, policy_version: int) -> bool:
        """Whether `measure` was done for this version, by this process or by an earlier one of the run."""
        ...

    def unreported(self) -> tuple[int, ...]:
        """Versions of which there are answers that no report of the run tells of, in order."""
        ...

    async def measure(self, policy_version: int) -> Measured:
        """Once all answers are there: measure them, and write that down."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """What a run evaluates.

    Args:
        every_steps: 0 evaluates before the first and after the last step only.
        num_workers: engines that are lent for it while training goes on; 0 lets training wait instead.
    """

    evaluator: Evaluator
    book: EvaluationBook
    every_steps: int
    num_workers: int


class RunEvaluations:
    """The evaluations of one run.

    Args:
        plan: None for a run that evaluates nothing.
        report: tells the control plane of results.
        tell: reports an event: its kind and a message.
    """

    def __init__(
        self,
        plan: EvaluationPlan | None,
        workers: Workers,
        bell: Bell,
        *,
        report: Callable[[RunReport], Awaitable[None]],
        tell: Callable[[str, str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._bell = bell
        self._report = report
        self._tell = tell
        self._clock = clock
        self._beside: int | None = None
        self._is_answered = False
        self._outcome: EvaluationReport | str = ""

    def set_interval(self, every_steps: int) -> None:
        """Evaluate after so many steps from now on; 0 at the end only. Nothing where the run evaluates nothing."""
        if self._plan is not None:
            self._plan = replace(self._plan, every_steps=every_steps)

    def is_due(self, step: int, *, is_last: bool) -> bool:
        plan = self._plan
        return plan is not None and (is_last or bool(plan.every_steps and step % plan.every_steps == 0))

    @property
    def is_planned(self) -> bool:
        """Whether the run evaluates anything at all."""
        return self._plan is not None

    def is_measured(self, policy_version: int) -> bool:
        """Whether there is a result for this version."""
        return self._plan is not None and self._plan.book.is_measured(policy_version)

    def is_open(self, first: int) -> bool:
        """Whether a process that begins at this step has to evaluate it: one before it may not have come to an end."""
        return self.is_due(first, is_last=first == 0) and not self._known.book.is_measured(first)

    @property
    def lends_engines(self) -> bool:
        """Whether training goes on meanwhile."""
        return self._plan is not None and self._plan.num_workers > 0

    @property
    def is_beside_training(self) -> bool:
        """Whether engines are lent."""
        return self._beside is not None

    @property
    def has_engines_to_give_back(self) -> bool:
        return self._is_answered

    def give_back(self, current_version: int | None) -> None:
        """Take back the engines of an evaluation that has ended; nothing where there are none.

        Args:
            current_version: engines that still have it serve at once, the others are brought to it first. None while a
                newer one is on its way.
        """
        if self._is_answered:
            self._workers.rollout.take_back(as_current=self._beside == current_version)
            self._beside, self._is_answered = None, False

    async def measure(self, policy_version: int) -> EvaluationReport:
        """Evaluate on all engines, which serve this version.

        Raises:
            RunFailed: an answer failed too often, or no answer got a verdict.
        """
        return await self._evaluate(policy_version, self._workers)

    async def begin(self, policy_version: int) -> str:
        """Lend engines, which serve this version, and let `run` evaluate on them; training goes on at once.

        Returns:
            Why it was not begun, which is told as well, or "".
        """
        why = ""
        if self._beside is not None:
            why = f"version {policy_version} is not evaluated: the evaluation of version {self._beside} goes on "
            why += "(evaluation.every_steps, evaluation.num_workers)"
        elif not self._workers.rollout.lend(self._known.num_workers):
            why = f"version {policy_version} is not evaluated: only one engine serves, and training needs it "
            why += "(evaluation.num_workers)"
        if why:
            await self._tell("evaluation_skipped", why)
            return why
        self._beside = policy_version
        self._bell.ring()
        return ""

    async def outcome(self, policy_version: int) -> EvaluationReport | str:
        """What became of the evaluation that was begun of this version: its result, or why it was given up."""
        await self._bell.wait_until(lambda: self._is_answered or self._beside != policy_version)
        return self._outcome

    async def recover(self, first: int) -> None:
        """Report what an earlier process of the run had all answers to, and tell of what is lost with it.

        Args:
            first: the version that this process begins with; its own evaluation can still be gone on with.
        """
        for version in self._plan.book.unreported() if self._plan else ():
            with self._known.book.answers(version) as store:
                is_complete = self._known.evaluator.is_complete(store)
            if is_complete:
                await self._report(await self.measure(version))
            elif version != first:
                message = f"the evaluation of version {version} is given up: its weights are gone"
                await self._tell("evaluation_lost", message)

    async def run(self) -> None:
        """See through what `begin` began, one after the other; until it is cancelled.

        One that fails is told of and given up: the weights it needs are gone with its engines. The run goes on.
        """
        while True:
            await self._bell.wait_until(lambda: self._beside is not None and not self._is_answered)
            assert self._beside is not None
            try:
                self._outcome = await self._evaluate(self._beside, _OnLentEngines(self._workers))
                await self._report(self._outcome)
            except (RunFailed, UserError) as failure:
                self._outcome = f"the evaluation of version {self._beside} is given up: {failure}"
                await self._tell("evaluation_lost", self._outcome)
            self._is_answered = True
            self._bell.ring()

    @property
    def _known(self) -> EvaluationPlan:
        assert self._plan is not None, "nothing is due without a plan"
        return self._plan

    async def _evaluate(self, policy_version: int, asker: "Workers | _OnLentEngines") -> EvaluationReport:
        began = self._clock()
        with self._known.book.answers(policy_version) as store:
            await self._known.evaluator.evaluate(policy_version, asker, store)
        measured = await self._known.book.measure(policy_version)
        if measured.accuracy is None:
            raise RunFailed(role="shaping", cause=f"no held-out response of version {policy_version} got a verdict")
        return EvaluationReport(
            step=policy_version,
            policy_version=policy_version,
            accuracy=measured.accuracy,
            num_problems=measured.num_problems,
            num_answers=measured.num_answers,
            num_decided=measured.num_decided,
            mean_response_tokens=measured.mean_response_tokens,
            seconds=self._clock() - began,
            metrics=measured.metrics,
        )


class _OnLentEngines:
    """Asks engines that are lent; any shaping worker grades."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def generate(self, request: GroupRequest) -> RoundHandle:
        return await self._workers.generate_lent(request)

    async def grade(self, handle: RoundHandle, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        return await self._workers.grade(handle, reward)
