"""The rollout worker, over a scripted engine."""

import asyncio
import pickle

import numpy as np
import pytest
from engine_cases import make_scripted_engine

from rollout.scripted_engine import Script
from rollout.worker import RolloutWorker
from shaping.errors import RunFailed
from shaping.records import GroupRequest, Message, Prompt, Sampling


def make_request(*, num_rollouts: int = 3, seed: int = 1) -> GroupRequest:
    prompt = Prompt(prompt_id="p1", messages=(Message(role="user", content="1+2?"),), reference_answer="3", position=0)
    return GroupRequest(
        group_id="g7",
        prompt=prompt,
        prompt_ids=np.array([5, 6], dtype=np.int32),
        hint_ids=np.array([8], dtype=np.int32),
        round_index=1,
        num_rollouts=num_rollouts,
        sampling=Sampling(max_response_tokens=8),
        seed=seed,
    )


async def test_a_group_comes_with_the_summary_of_its_arrays() -> None:
    ticks = iter([10.0, 12.5])
    worker = RolloutWorker(make_scripted_engine(), clock=lambda: next(ticks))
    await worker.start()
    summary, group = await worker.generate(make_request())
    assert (group.group_id, group.group_size, group.vocab_size) == ("g7", 3, 100)
    assert summary.group_id == "g7"
    assert summary.round_index == 1
    assert summary.response_lengths == tuple(each.num_tokens for each in group.rollouts)
    assert summary.num_response_tokens == sum(summary.response_lengths)
    assert summary.stop_reasons == tuple(each.stop_reason for each in group.rollouts)
    assert (summary.min_policy_version, summary.max_policy_version) == (0, 0)
    total = sum(float(each.entropies.astype(np.float64).sum()) for each in group.rollouts)
    assert summary.entropy_total == pytest.approx(total)
    assert summary.generation_s == 2.5


async def test_what_leaves_a_worker_can_be_pickled() -> None:
    worker = RolloutWorker(make_scripted_engine())
    info = await worker.start()
    summary, group = await worker.generate(make_request())
    assert pickle.loads(pickle.dumps((info, summary))) == (info, summary)
    assert pickle.loads(pickle.dumps(group)).rollouts[0].response_text == group.rollouts[0].response_text


async def test_a_failing_engine_names_the_group() -> None:
    worker = RolloutWorker(make_scripted_engine(Script(fails_at=frozenset({1}))))
    await worker.start()
    await worker.generate(make_request())
    with pytest.raises(RunFailed) as failure:
        await worker.generate(make_request())
    assert (failure.value.role, failure.value.group_id) == ("rollout", "g7")
    assert str(failure.value) == "rollout (group g7): the script fails generate call 1"
    await worker.generate(make_request())


async def test_a_worker_that_has_not_started_refuses() -> None:
    with pytest.raises(RunFailed, match="has not started"):
        await RolloutWorker(make_scripted_engine()).generate(make_request())


async def test_requests_are_held_together_until_each_is_answered() -> None:
    """Answers come in the order the script lets them, not in the order asked."""
    release = [asyncio.Event(), asyncio.Event()]

    async def hold(ordinal: int) -> None:
        await release[ordinal].wait()

    worker = RolloutWorker(make_scripted_engine(Script(before_answer=hold)))
    await worker.start()
    first = asyncio.ensure_future(worker.generate(make_request(seed=1)))
    second = asyncio.ensure_future(worker.generate(make_request(seed=2)))
    await asyncio.sleep(0)
    release[1].set()
    await second
    assert not first.done()
    release[0].set()
    await first


async def test_the_canary_is_sampled_like_any_group_and_answers_with_its_tokens() -> None:
    request = make_request(num_rollouts=1)
    engine = make_scripted_engine()
    worker = RolloutWorker(engine)
    await worker.start()
    answer = await worker.canary(request)
    _, group = await worker.generate(request)
    (rollout,) = group.rollouts
    assert engine.calls.num_generate == 2
    assert np.array_equal(answer.prompt_ids, request.prompt_ids)
    assert np.array_equal(answer.response_ids, rollout.response_ids)
    assert np.array_equal(answer.behavior_logprobs, rollout.behavior_logprobs)
    assert answer.temperature == request.sampling.temperature
