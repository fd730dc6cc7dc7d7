"""Held-out accuracy on the run's own engines, at the policy version that is live."""

import asyncio
from collections.abc import Sequence

from rollout.render import Renderer
from rollout.requests import derive_seed
from services.deadlines import within
from services.failures import first_cause
from services.ports import RoundHandle
from services.reports import EvaluationReport
from services.stopwatch import Clock
from services.workers import Workers
from shaping.errors import RunFailed
from shaping.records import GroupRequest, Prompt, Sampling

EVALUATION_STREAM = 1


class Evaluator:
    """Samples one response for each held-out prompt, always with the same seeds, and asks the rewards."""

    def __init__(
        self,
        *,
        prompts: Sequence[Prompt],
        renderer: Renderer,
        sampling: Sampling,
        seed: int,
        deadline_seconds: float,
        clock: Clock,
    ) -> None:
        no_hint = renderer.hint_ids("")
        self._requests = [
            GroupRequest(
                group_id=f"eval{index:06d}",
                prompt=prompt,
                prompt_ids=renderer.prompt_ids(prompt),
                hint_ids=no_hint,
                round_index=0,
                num_rollouts=1,
                sampling=sampling,
                seed=derive_seed(seed, EVALUATION_STREAM, index),
            )
            for index, prompt in enumerate(prompts)
        ]
        self._deadline_seconds = deadline_seconds
        self._clock = clock

    async def evaluate(self, policy_version: int, workers: Workers) -> EvaluationReport:
        """Accuracy over the decided rollouts.

        Raises:
            RunFailed: a response failed too often, no response got a verdict, or it took longer than the deadline.
        """
        began = self._clock()
        results = await within(
            self._deadline_seconds,
            self._all(workers),
            role="rollout",
            what=f"evaluation of version {policy_version}",
            key="run.deadlines.step_seconds",
        )
        num_decided = sum(decided for _, decided, _ in results)
        if num_decided == 0:
            raise RunFailed(role="shaping", cause=f"no held-out response of version {policy_version} got a verdict")
        return EvaluationReport(
            step=policy_version,
            policy_version=policy_version,
            accuracy=sum(correct for _, _, correct in results) / num_decided,
            num_problems=len(results),
            num_decided=num_decided,
            mean_response_tokens=sum(handle.summary.num_response_tokens for handle, _, _ in results) / len(results),
            seconds=self._clock() - began,
        )

    async def _all(self, workers: Workers) -> list[tuple[RoundHandle, int, int]]:
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(_one(workers, request)) for request in self._requests]
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from failures
        return [each.result() for each in asked]


async def _one(workers: Workers, request: GroupRequest) -> tuple[RoundHandle, int, int]:
    handle = await workers.generate(request)
    outcome = await workers.score(handle)
    return handle, len(outcome.rewards), outcome.num_correct
