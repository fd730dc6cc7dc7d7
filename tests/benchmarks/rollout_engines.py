"""vLLM engines that answer the same requests in turn: bare, with our sampler, and behind a RolloutWorker.

Runs in a rollout worker's environment: `tests.benchmarks.rollout` starts it with a Load as JSON and the name of a file
for the turns.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from vllm import SamplingParams
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.sample.sampler import Sampler

from rollout.render import load_renderer
from rollout.request_checks import stream_seed
from rollout.sources import arithmetic_task
from rollout.vllm_engine import VllmEngine
from rollout.vllm_extension import RolloutExtension
from rollout.vllm_models import import_model_classes
from rollout.vllm_sampler import add_entropies
from rollout.vllm_terms import engine_arguments, sampling_parameters
from rollout.worker import RolloutWorker
from shaping.records import GroupRequest
from tests.benchmarks.rollout import MAX_PROMPT_TOKENS, Load, Turn

NUM_WARM_UPS = 2

Ask = Callable[[Sequence[GroupRequest]], Awaitable[int]]
"""Answers requests, all at once, and returns the number of tokens sampled."""


class SwitchingExtension(RolloutExtension):
    """Takes the entropies away again, so that both samplers can be timed in one process."""

    def report_entropies(self, *, wanted: bool) -> None:
        sampler = self.model_runner.sampler
        if type(sampler) is not Sampler:
            sampler.__class__ = Sampler
        sampler.logprobs_mode = sampler.topk_topp_sampler.logprobs_mode = "processed_logprobs"
        if wanted:
            add_entropies(sampler, raw=True)


@asynccontextmanager
async def started_llm(load: Load, **changes: Any) -> AsyncIterator[AsyncLLM]:
    arguments = engine_arguments(load.settings)
    for name, value in changes.items():
        setattr(arguments, name, value)
    llm = AsyncLLM.from_engine_args(arguments)
    try:
        yield llm
    finally:
        llm.shutdown()


async def sample(llm: AsyncLLM, requests: Sequence[GroupRequest], parameters: Sequence[SamplingParams]) -> int:
    """All requests through vLLM's own interface."""

    async def one(request: GroupRequest, each: SamplingParams) -> int:
        final = None
        async for output in llm.generate(tokens_input(request.prompt_ids.tolist()), each, request.group_id):
            final = output
        assert final is not None and final.finished
        return sum(len(each.token_ids) for each in final.outputs)

    return sum(await asyncio.gather(*map(one, requests, parameters)))


def bare_parameters(request: GroupRequest) -> SamplingParams:
    """As a user of vLLM asks for RL: sampled log-probs and the text, one answer at the end."""
    return SamplingParams(
        n=request.num_rollouts,
        temperature=1.0,
        max_tokens=request.sampling.max_response_tokens,
        seed=stream_seed(request.seed),
        logprobs=0,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def our_parameters(request: GroupRequest) -> SamplingParams:
    return sampling_parameters(
        request.sampling,
        num_rollouts=request.num_rollouts,
        budget=request.sampling.max_response_tokens,
        seed=request.seed,
    )


def without_entropies(request: GroupRequest) -> SamplingParams:
    """Our requests, without the column that carries entropies."""
    parameters = our_parameters(request)
    parameters.logprobs = 0
    return parameters


@asynccontextmanager
async def bare_sides(load: Load) -> AsyncIterator[dict[str, Ask]]:
    """vLLM as it comes."""
    stock = {"worker_extension_cls": "", "weight_transfer_config": None, "logprobs_mode": "raw_logprobs"}
    async with started_llm(load, **stock) as llm:

        async def bare(requests: Sequence[GroupRequest]) -> int:
            return await sample(llm, requests, [bare_parameters(each) for each in requests])

        yield {"bare": bare}


@asynccontextmanager
async def worker_sides(load: Load) -> AsyncIterator[dict[str, Ask]]:
    """A rollout worker, as its actor calls it."""
    worker = RolloutWorker(VllmEngine(load.settings))
    await worker.start()

    async def ours(requests: Sequence[GroupRequest]) -> int:
        answers = await asyncio.gather(*map(worker.generate, requests))
        return sum(summary.num_response_tokens for summary, _ in answers)

    try:
        yield {"worker": ours}
    finally:
        await worker.close()


@asynccontextmanager
async def switching_sides(load: Load) -> AsyncIterator[dict[str, Ask]]:
    """One engine, the same requests with entropies and without."""
    extension = f"{SwitchingExtension.__module__}.{SwitchingExtension.__name__}"
    async with started_llm(load, worker_extension_cls=extension) as llm:

        async def with_them(requests: Sequence[GroupRequest]) -> int:
            return await sample(llm, requests, [our_parameters(each) for each in requests])

        async def without(requests: Sequence[GroupRequest]) -> int:
            return await sample(llm, requests, [without_entropies(each) for each in requests])

        async def switch(wanted: bool) -> None:
            await llm.collective_rpc("report_entropies", kwargs={"wanted": wanted})

        yield {"entropies": Switched(with_them, lambda: switch(True)), "none": Switched(without, lambda: switch(False))}


@dataclass(frozen=True, slots=True)
class Switched:
    """An Ask with something to prepare, untimed."""

    ask: Ask
    prepare: Callable[[], Awaitable[None]]

    async def __call__(self, requests: Sequence[GroupRequest]) -> int:
        return await self.ask(requests)


SIDES = {"bare": bare_sides, "worker": worker_sides, "entropies": switching_sides, "none": switching_sides}


def make_requests(load: Load, round_index: int) -> list[GroupRequest]:
    """Requests of one round, with problems and seeds of its own."""
    renderer = load_renderer(load.model_path, template="chat", max_prompt_tokens=MAX_PROMPT_TOKENS)
    source = arithmetic_task.build(arithmetic_task.Config())
    prompts = [source.prompt((round_index * load.num_groups + index) % len(source)) for index in range(load.num_groups)]
    return [
        GroupRequest(
            group_id=f"round{round_index}-{index}",
            prompt=prompt,
            prompt_ids=renderer.prompt_ids(prompt),
            hint_ids=np.zeros(0, np.int32),
            round_index=0,
            num_rollouts=load.group_size,
            sampling=load.sampling,
            seed=round_index * load.num_groups + index,
        )
        for index, prompt in enumerate(prompts)
    ]


def cpu_seconds() -> float:
    """CPU time so far of this process and its descendants."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def contest(load: Load) -> dict[str, list[Turn]]:
    """Every round, every side, in turned order."""
    turns: dict[str, list[Turn]] = {name: [] for name in load.sides}
    async with AsyncExitStack() as stack:
        asks: dict[str, Ask] = {}
        for sides in dict.fromkeys(SIDES[name] for name in load.sides):
            asks |= await stack.enter_async_context(sides(load))
        for round_index in range(NUM_WARM_UPS + load.num_rounds):
            requests = make_requests(load, round_index)
            for name in load.sides if round_index % 2 else reversed(load.sides):
                turn = await take_turn(asks[name], requests)
                if round_index >= NUM_WARM_UPS:
                    turns[name].append(turn)
    return turns


async def take_turn(ask: Ask, requests: Sequence[GroupRequest]) -> Turn:
    if isinstance(ask, Switched):
        await ask.prepare()
    wall, cpu = time.perf_counter(), cpu_seconds()
    num_tokens = await ask(requests)
    return Turn(wall_seconds=time.perf_counter() - wall, cpu_seconds=cpu_seconds() - cpu, num_tokens=num_tokens)


def main() -> None:
    raw, answer = sys.argv[1:]
    fields = json.loads(raw)
    load = Load(**(fields | {"sides": tuple(fields["sides"])}))
    import_model_classes(load.model_path)
    turns = asyncio.run(contest(load))
    Path(answer).write_text(json.dumps({name: [asdict(each) for each in turns[name]] for name in turns}))


if __name__ == "__main__":
    main()
