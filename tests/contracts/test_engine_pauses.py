"""How every engine is held, given up and put to sleep by a user's pause, beside the pauses of weight syncs."""

import asyncio
from typing import Any

import numpy as np
import pytest

from rollout.engine import NO_VERSION, EngineMemory
from shaping.errors import EngineRefused, RolloutAborted, RunFailed
from shaping.records import Rollout

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # As for the rest of the contract.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PROMPT = [5, 17, 9, 40, 33, 21]
LONG = {"n": 3, "seed": 71, "max_response_tokens": 300}
"""With this seed one response at least is far longer than what another request needs for its one token."""


async def under_way(case: Any, **sampling: Any) -> asyncio.Task[tuple[Rollout, ...]]:
    """A request that has sampled tokens, where the engine has a model, and has not ended."""
    running = asyncio.ensure_future(case.generate(PROMPT, **{**LONG, **sampling}))
    if case.has_model:
        await asyncio.sleep(0)
        # Requests start in order: once this one has a token, the long one has too.
        await case.generate(PROMPT, n=1, seed=1, max_response_tokens=1)
    assert not running.done()
    return running


async def stands_still(case: Any, running: asyncio.Task[Any]) -> bool:
    """A frozen request gets no further while a version is sent and verified, which takes many of its tokens' time."""
    await case.stage()
    await case.engine.discard_staged_weights()
    return not running.done()


async def test_a_frozen_request_goes_on_token_by_token_as_if_nothing_had_been(case: Any) -> None:
    expected = await case.generate(PROMPT, **LONG)
    running = await under_way(case)
    await case.engine.freeze()
    assert await stands_still(case, running)
    await case.engine.thaw()
    for found, wanted in zip(await running, expected, strict=True):
        assert found.response_ids.tolist() == wanted.response_ids.tolist()
        np.testing.assert_allclose(found.behavior_logprobs, wanted.behavior_logprobs, atol=1e-5)
        np.testing.assert_allclose(found.entropies, wanted.entropies, atol=1e-5)
        assert found.version_spans == wanted.version_spans


async def test_what_comes_to_a_frozen_engine_waits_for_the_thaw(case: Any) -> None:
    expected = await case.generate(PROMPT, seed=72)
    await case.engine.freeze()
    held = asyncio.ensure_future(case.generate(PROMPT, seed=72))
    assert await stands_still(case, held)
    await case.engine.thaw()
    assert [each.response_ids.tolist() for each in await held] == [each.response_ids.tolist() for each in expected]


async def test_a_commit_of_weights_leaves_a_frozen_engine_frozen(case: Any) -> None:
    running = await under_way(case)
    await case.engine.freeze()
    before = case.engine.policy_version
    assert await case.publish() == before + 1
    # What an aborted weight sync does to every engine, whatever its state.
    await case.engine.resume()
    assert await stands_still(case, running)
    await case.engine.thaw()
    versions = {span.policy_version for rollout in await running for span in rollout.version_spans}
    assert versions == ({before, before + 1} if case.has_model else {before + 1})


async def test_a_thaw_leaves_an_engine_paused_that_a_weight_sync_holds(case: Any) -> None:
    running = await under_way(case)
    await case.engine.pause()
    await case.engine.freeze()
    await case.engine.thaw()
    assert await stands_still(case, running)
    await case.engine.resume()
    await running


@pytest.mark.parametrize("is_frozen", [False, True])
async def test_an_abort_gives_up_what_is_under_way_and_the_engine_serves_the_next(case: Any, is_frozen: bool) -> None:
    expected = await case.generate(PROMPT, seed=73)
    if is_frozen or not case.has_model:
        # A script answers at once unless it is held.
        await case.engine.freeze()
    running = [await asyncio.wait_for(held_or_under_way(case, is_frozen, seed), 30) for seed in (74, 75)]
    await case.engine.abort()
    for each in running:
        with pytest.raises(RolloutAborted, match="given up: the run is being stopped"):
            await each
    held = asyncio.ensure_future(case.generate(PROMPT, seed=73))
    if is_frozen:
        assert await stands_still(case, held)
    await case.engine.thaw()
    assert [each.response_ids.tolist() for each in await held] == [each.response_ids.tolist() for each in expected]


async def held_or_under_way(case: Any, is_frozen: bool, seed: int) -> asyncio.Task[Any]:
    if case.has_model and not is_frozen:
        return await under_way(case, seed=seed, n=1, max_response_tokens=400)
    running = asyncio.ensure_future(case.generate(PROMPT, seed=seed))
    await asyncio.sleep(0)
    return running


async def test_an_engine_says_what_it_can_give_back_and_refuses_the_rest_by_name(case: Any) -> None:
    assert case.info is not None
    if case.info.can_release:
        assert case.info.can_release == tuple(EngineMemory)
        return
    for memory in EngineMemory:
        with pytest.raises(EngineRefused, match=f"vLLM can give back {memory} on a GPU only"):
            await case.engine.release(memory)
    assert len(await case.generate(PROMPT, n=1)) == 1


async def test_memory_is_not_given_back_under_a_request(case: Any) -> None:
    await case.engine.freeze()
    held = asyncio.ensure_future(case.generate(PROMPT, n=1))
    await asyncio.sleep(0)
    with pytest.raises(EngineRefused, match="with no request under way, found 1"):
        await case.engine.release(EngineMemory.KV_CACHE)
    await case.engine.thaw()
    await held


async def test_an_engine_that_gave_its_weights_back_serves_only_what_it_is_sent_again(case: Any) -> None:
    if not case.info.can_release:
        pytest.skip("this engine gives nothing back here")
    await case.publish()
    version = case.engine.policy_version
    expected = await case.generate(PROMPT, seed=76)
    await case.engine.release(EngineMemory.ROLLOUT_WEIGHTS)
    assert case.engine.policy_version == NO_VERSION
    await case.engine.wake(EngineMemory.ROLLOUT_WEIGHTS)
    with pytest.raises(RunFailed, match="gave its weights back, and none have come since"):
        await case.generate(PROMPT)
    await case.connect()
    layout = case.policy.layout()
    sending = asyncio.to_thread(case.sender.send, case.policy.buckets(layout), policy_version=version)
    await asyncio.gather(sending, case.engine.stage_weights(layout, version))
    await case.engine.commit_weights(case.policy.manifest(version))
    # Its weights are there, its KV cache is not: nothing is sampled yet.
    held = asyncio.ensure_future(case.generate(PROMPT, seed=76))
    await asyncio.sleep(0)
    assert not held.done()
    await case.engine.wake(EngineMemory.KV_CACHE)
    assert [each.response_ids.tolist() for each in await held] == [each.response_ids.tolist() for each in expected]


async def test_an_engine_that_gave_its_kv_cache_back_goes_on_with_the_same_weights(case: Any) -> None:
    if not case.info.can_release:
        pytest.skip("this engine gives nothing back here")
    expected, version = await case.generate(PROMPT, seed=77), case.engine.policy_version
    await case.engine.release(EngineMemory.KV_CACHE)
    await case.engine.wake(EngineMemory.KV_CACHE)
    assert case.engine.policy_version == version
    found = await case.generate(PROMPT, seed=77)
    assert [each.response_ids.tolist() for each in found] == [each.response_ids.tolist() for each in expected]
