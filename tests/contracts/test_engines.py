"""One contract for every engine: scripted, hf and vllm."""

import asyncio
import gc
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import free_port, header_bytes

from shaping.errors import ChannelBroken, EngineRefused, RecordError, RunFailed
from shaping.records import EntropySource, Rollout, Sampling, StopReason, VersionSpan

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM and what it imports use names that torch has deprecated, and leave sockets to the collector.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PROMPT = [5, 17, 9, 40, 33, 21]
LONG_PROMPT = [3 + (7 * index) % 290 for index in range(180)]
"""Longer than a block of vLLM's KV cache on CPU (128 tokens), so that the prefix cache takes part."""

TRUNCATED = {"temperature": 0.7, "top_p": 0.95, "top_k": 20}


def same_tokens(left: tuple[Rollout, ...], right: tuple[Rollout, ...]) -> bool:
    return [each.response_ids.tolist() for each in left] == [each.response_ids.tolist() for each in right]


def assert_matches(case: Any, prompt: list[int], rollouts: tuple[Rollout, ...], **sampling: Any) -> None:
    for rollout in rollouts:
        logprobs, entropies = case.expected(prompt, rollout, Sampling(**sampling))
        assert np.abs(rollout.behavior_logprobs - logprobs).max() < 1e-4
        assert np.abs(rollout.entropies - entropies).max() < 1e-4


async def test_an_engine_says_what_it_proved(case: Any) -> None:
    assert case.info.vocab_size == 300
    assert case.info.max_model_tokens == 512
    assert 0 <= case.info.max_logprob_error <= 1e-4
    assert 0 <= case.info.max_entropy_error <= 1e-4
    assert case.first_version == 7


async def test_a_request_gives_finite_numbers_of_equal_length_and_one_version(case: Any) -> None:
    rollouts = await case.generate(PROMPT, n=3)
    assert len(rollouts) == 3
    for rollout in rollouts:
        length = rollout.num_tokens
        assert 1 <= length <= 24
        assert rollout.behavior_logprobs.shape == rollout.entropies.shape == (length,)
        assert np.isfinite(rollout.behavior_logprobs).all() and np.isfinite(rollout.entropies).all()
        assert rollout.entropies.max() <= math.log(300) + 1e-4
        assert rollout.entropy_source is EntropySource.RAW
        version = case.engine.policy_version
        assert rollout.version_spans == (VersionSpan(start=0, stop=length, policy_version=version),)


async def test_a_seed_gives_the_same_tokens_alone_and_among_others(case: Any) -> None:
    alone = await case.generate(PROMPT, seed=11)
    others = [case.generate([each, *PROMPT], seed=each, n=2) for each in range(20, 26)]
    among = (await asyncio.gather(*others[:3], case.generate(PROMPT, seed=11), *others[3:]))[3]
    assert same_tokens(alone, among)
    for left, right in zip(alone, among, strict=True):
        np.testing.assert_allclose(left.behavior_logprobs, right.behavior_logprobs, atol=1e-4)


async def test_rollouts_of_a_request_and_neighbouring_seeds_use_different_streams(case: Any) -> None:
    first = await case.generate(PROMPT, n=4, seed=11)
    second = await case.generate(PROMPT, n=4, seed=12)
    texts = [tuple(each.response_ids.tolist()) for each in (*first, *second)]
    assert len(set(texts)) == len(texts)


async def test_a_response_ends_at_the_token_limit(case: Any) -> None:
    for rollout in await case.generate(PROMPT, n=6, max_response_tokens=5):
        assert rollout.num_tokens == 5 or rollout.stop_reason is not StopReason.LENGTH
        assert rollout.num_tokens <= 5


async def test_the_models_length_bounds_a_response(case: Any) -> None:
    """512 tokens in all: 509 of prompt and hint leave 3."""
    prompt = [3 + index % 200 for index in range(500)]
    for rollout in await case.generate(prompt, hint_ids=[7] * 9, n=2, max_response_tokens=64):
        assert rollout.num_tokens <= 3


async def test_a_request_that_no_model_can_take_is_refused(case: Any) -> None:
    with pytest.raises(RecordError, match="token ids must be < 300, got 300"):
        await case.generate([5, 300])
    with pytest.raises(RecordError, match=r"leave room for a response: 512 \+ 0 tokens"):
        await case.generate([5] * 512)
    with pytest.raises(RecordError, match="at least one token"):
        await case.generate([])
    with pytest.raises(RecordError, match="reports raw entropies, the request wants processed"):
        await case.generate(PROMPT, entropy_source=EntropySource.PROCESSED)


async def test_hint_tokens_are_prefilled_and_not_sampled(case: Any) -> None:
    hint = [60, 61, 62, 63]
    rollouts = await case.generate(PROMPT, hint_ids=hint, seed=5)
    assert all(rollout.hint_ids.tolist() == hint for rollout in rollouts)
    if case.has_model:
        assert_matches(case, PROMPT, rollouts)
        assert same_tokens(rollouts, await case.generate([*PROMPT, *hint], seed=5))


async def test_a_response_ends_at_the_end_token_and_keeps_it(case: Any) -> None:
    if not case.has_model:
        pytest.skip("a script has no end token")
    end_id = case.policy.model.config.eos_token_id
    rollouts = await case.generate(PROMPT, n=16, seed=2, max_response_tokens=200)
    assert {StopReason.EOS} <= {each.stop_reason for each in rollouts}
    for rollout in rollouts:
        ends = np.flatnonzero(rollout.response_ids == end_id).tolist()
        assert ends == ([rollout.num_tokens - 1] if rollout.stop_reason is StopReason.EOS else [])
        assert "<|im_end|>" not in rollout.response_text


async def test_a_response_ends_with_the_token_that_completes_a_stop_string(case: Any, tokenizer: Any) -> None:
    if not case.has_model:
        pytest.skip("a script has no stop strings")
    stop = ("e", "s", "t", "o")
    rollouts = await case.generate(PROMPT, n=16, seed=3, max_response_tokens=64, stop=stop)
    assert {StopReason.STOP_STRING} <= {each.stop_reason for each in rollouts}
    for rollout in rollouts:
        before = tokenizer.decode(rollout.response_ids[:-1].tolist(), skip_special_tokens=True)
        assert not any(each in before for each in stop)
        stopped = rollout.stop_reason is StopReason.STOP_STRING
        assert stopped == any(each in rollout.response_text for each in stop)
        assert len(rollout.entropies) == rollout.num_tokens


async def test_a_response_ends_at_a_stop_token_and_keeps_it(case: Any) -> None:
    """Up to there it is the response that would have been without: stop tokens cut, and change nothing else."""
    stops = tuple(range(3, 100, 5))
    free = await case.generate(PROMPT, n=16, seed=2, max_response_tokens=64)
    stopped = await case.generate(PROMPT, n=16, seed=2, max_response_tokens=64, stop_token_ids=stops)
    for long, short in zip(free, stopped, strict=True):
        ends = np.flatnonzero(np.isin(long.response_ids, stops)).tolist()
        length = ends[0] + 1 if ends else long.num_tokens
        assert short.response_ids.tolist() == long.response_ids[:length].tolist()
        assert short.stop_reason is (StopReason.EOS if ends else long.stop_reason)
        assert len(short.behavior_logprobs) == len(short.entropies) == length
    assert any(short.num_tokens < long.num_tokens for long, short in zip(free, stopped, strict=True))


@pytest.mark.parametrize("sampling", [{}, TRUNCATED, {"temperature": 1.3}, {"top_p": 0.9}, {"top_k": 5}])
async def test_numbers_equal_a_forward_pass(case: Any, sampling: dict[str, Any]) -> None:
    """Log-probs of the distribution sampled from, entropies of the model's own: two distributions in one pass."""
    if not case.has_model:
        pytest.skip("a script has no model")
    rollouts = await case.generate(PROMPT, n=8, seed=4, max_response_tokens=100, **sampling)
    assert sum(rollout.num_tokens for rollout in rollouts) > 100
    assert_matches(case, PROMPT, rollouts, **sampling)


async def test_requests_with_different_sampling_share_a_batch(case: Any) -> None:
    if not case.has_model:
        pytest.skip("a script has no model")
    plain, truncated = await asyncio.gather(
        case.generate(PROMPT, n=4, seed=6), case.generate(PROMPT, n=4, seed=7, **TRUNCATED)
    )
    assert_matches(case, PROMPT, plain)
    assert_matches(case, PROMPT, truncated, **TRUNCATED)


async def test_prompts_that_no_batch_can_hold_together_are_all_answered(case: Any) -> None:
    """40 prompts of 300 tokens: more than one prefill may take at once (8192 tokens in vLLM on CPU)."""
    prompts = [[3 + (first + 11 * index) % 290 for index in range(300)] for first in range(40)]
    answers = await asyncio.gather(*(case.generate(prompt, n=1, max_response_tokens=2) for prompt in prompts))
    assert all(1 <= rollout.num_tokens <= 2 for (rollout,) in answers)
    if case.has_model:
        assert_matches(case, prompts[-1], answers[-1])


async def test_after_a_commit_rollouts_are_of_the_new_weights_and_version(case: Any) -> None:
    """The prompt is in the prefix cache from the version before."""
    before = await case.generate(LONG_PROMPT, n=2, seed=8)
    case.policy.perturb(seed=1)
    version = await case.publish()
    assert case.engine.policy_version == version
    after = await case.generate(LONG_PROMPT, n=2, seed=8)
    assert {span.policy_version for rollout in after for span in rollout.version_spans} == {version}
    assert not same_tokens(before, after)
    if case.has_model:
        assert_matches(case, LONG_PROMPT, after)


async def test_a_second_commit_leaves_nothing_of_the_first(case: Any) -> None:
    for seed in (2, 3):
        case.policy.perturb(seed=seed)
        await case.publish()
    if case.has_model:
        assert_matches(case, LONG_PROMPT, await case.generate(LONG_PROMPT, n=2, seed=8))


async def test_with_two_policies_and_a_shared_prefix_no_cache_hit_crosses_versions(case: Any) -> None:
    """The prefix is in the cache from the policy before, and from a request that is under way during the commit."""
    if not case.has_model:
        pytest.skip("a script has no cache")
    first = case.policy
    second = first.copy()
    second.perturb(seed=4)
    prompts = [[*LONG_PROMPT, suffix] for suffix in (11, 12)]
    for policy in (second, first):
        running = asyncio.ensure_future(case.generate(prompts[0], n=1, seed=14, max_response_tokens=60))
        # Requests start in order: once this one has a token, the prefix of both is in the cache.
        await case.generate(prompts[1], n=1, seed=15, max_response_tokens=1)
        case.policy = policy
        await case.publish()
        for prompt in prompts:
            assert_matches(case, prompt, await case.generate(prompt, n=2, seed=16))
        await running


async def test_a_corrupted_bucket_is_refused_and_the_old_version_goes_on(case: Any) -> None:
    before = await case.generate(LONG_PROMPT, n=2, seed=9)
    version = case.engine.policy_version
    manifest = await case.stage(flipped_bucket=1)
    with pytest.raises(EngineRefused, match=f"bucket 1 must have checksum {manifest.checksums[1]}, received [0-9a-f]+"):
        await case.engine.commit_weights(manifest)
    assert case.engine.policy_version == version
    after = await case.generate(LONG_PROMPT, n=2, seed=9)
    assert same_tokens(before, after)
    for left, right in zip(before, after, strict=True):
        np.testing.assert_array_equal(left.version_spans, right.version_spans)
        np.testing.assert_allclose(left.behavior_logprobs, right.behavior_logprobs, atol=1e-6)
    with pytest.raises(EngineRefused, match="found none staged"):
        await case.engine.commit_weights(manifest)


async def test_a_version_that_is_not_newer_is_refused(case: Any) -> None:
    await case.stage()
    version = case.engine.policy_version
    with pytest.raises(EngineRefused, match=f"must be newer than {version}, got {version}"):
        await case.engine.commit_weights(case.policy.manifest(version))
    assert case.engine.policy_version == version


async def test_a_version_that_is_not_newer_is_refused_before_a_byte_is_received(case: Any) -> None:
    version = case.engine.policy_version
    with pytest.raises(EngineRefused, match=f"must be newer than {version}, got {version}"):
        await case.engine.stage_weights(case.policy.layout(), version)


async def test_weights_are_verified_before_they_are_live(case: Any) -> None:
    version = case.engine.policy_version
    manifest = await case.stage()
    await case.engine.verify_weights(manifest)
    assert case.engine.policy_version == version
    await case.engine.commit_weights(manifest)
    assert case.engine.policy_version == version + 1
    manifest = await case.stage(flipped_bucket=2)
    with pytest.raises(EngineRefused, match=f"bucket 2 must have checksum {manifest.checksums[2]}"):
        await case.engine.verify_weights(manifest)
    with pytest.raises(EngineRefused, match="found none staged"):
        await case.engine.verify_weights(manifest)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ({"order": [0, 2]}, "bucket 1 of version {new} must come next, found bucket 2: bucket 1 is missing"),
        ({"order": [0, 1]}, "bucket 2 of version {new} must come next, found the end: bucket 2 is missing"),
        ({"order": [0, 1, 1, 2]}, "bucket 2 of version {new} must come next, found bucket 1 again"),
        ({"order": [0, 1, 2, 2]}, "the end of version {new} must come next, found bucket 2 again"),
        ({"order": [1, 0, 2]}, "bucket 0 of version {new} must come next, found bucket 1: bucket 0 is missing"),
        ({"sent_version": 1}, "bucket 0 of version {new} must come next, found bucket 0 of version 1"),
    ],
)
async def test_a_bucket_out_of_step_is_refused_by_name_and_a_new_channel_works(
    case: Any, faults: dict[str, Any], told: str
) -> None:
    before = case.engine.policy_version
    with pytest.raises(EngineRefused, match=told.format(new=before + 1)):
        await case.stage(**faults)
    with pytest.raises(EngineRefused, match="found none staged"):
        await case.engine.verify_weights(case.policy.manifest(before + 1))
    await case.connect()
    assert await case.publish() == before + 1


async def test_a_sender_that_leaves_half_way_breaks_the_channel_and_a_new_one_works(case: Any) -> None:
    before = case.engine.policy_version
    layout = case.policy.layout()

    def send_one_and_leave() -> None:
        index, bucket = 0, case.policy.buckets(layout)[0]
        case.sender._sent(header_bytes(before + 1, index, 3, len(bucket)), np.frombuffer(bucket, dtype=np.uint8).copy())
        case.sender.leave()

    sending = asyncio.to_thread(send_one_and_leave)
    _, staged = await asyncio.gather(sending, case.engine.stage_weights(layout, before + 1), return_exceptions=True)
    assert isinstance(staged, ChannelBroken)
    assert f"bucket 1 of version {before + 1} did not arrive" in str(staged)
    await case.connect()
    assert await case.publish() == before + 1


async def test_a_channel_that_nobody_hosts_is_given_up_in_time(case: Any) -> None:
    """Another engine's problem is not this one's: it goes on serving, and meets in the next channel."""
    if case.kind != "vllm":
        pytest.skip("in memory nobody is waited for")
    nowhere = replace(case.sender.channel, port=free_port())
    running = asyncio.ensure_future(case.generate(PROMPT, n=1, max_response_tokens=8))
    with pytest.raises(ChannelBroken, match=f"no weight channel at 127.0.0.1:{nowhere.port}"):
        await case.engine.connect_weights(nowhere)
    assert len(await running) == 1
    await case.connect()
    await case.publish()


async def test_discarded_weights_cannot_be_committed(case: Any) -> None:
    manifest = await case.stage()
    await case.engine.discard_staged_weights()
    with pytest.raises(EngineRefused, match="found none staged"):
        await case.engine.commit_weights(manifest)
    await case.publish()


async def test_generation_goes_on_while_weights_are_staged(case: Any) -> None:
    version = case.engine.policy_version
    rollouts, _ = await asyncio.gather(case.generate(PROMPT, n=2, seed=10), case.stage())
    assert rollouts[0].max_policy_version == version
    await case.engine.discard_staged_weights()


async def test_a_request_under_way_goes_on_with_the_new_weights(case: Any) -> None:
    """Tokens before the switch are of the old weights, tokens after it of the new ones, keys and values included."""
    if not case.has_model:
        pytest.skip("a script answers at once")
    old_version = case.engine.policy_version
    rollout, old, new = await _switched_rollout(case)
    first, second = rollout.version_spans
    assert (first.policy_version, second.policy_version) == (old_version, old_version + 1)
    for span, (logprobs, entropies) in ((first, old), (second, new)):
        where = slice(span.start, span.stop)
        assert np.abs(rollout.behavior_logprobs[where] - logprobs[where]).max() < 1e-4
        assert np.abs(rollout.entropies[where] - entropies[where]).max() < 1e-4


async def _switched_rollout(case: Any) -> tuple[Rollout, Any, Any]:
    """A rollout that was under way during a commit, and its numbers under the old and the new weights."""
    for seed in range(30, 40):
        running = asyncio.ensure_future(case.generate(LONG_PROMPT, n=1, seed=seed, max_response_tokens=300))
        # Requests start in order: once this one has a token, the long one has too.
        await case.generate(PROMPT, n=1, seed=seed, max_response_tokens=1)
        old_policy = case.policy.copy()
        case.policy.perturb(seed=seed)
        await case.publish()
        (rollout,) = await running
        if len(rollout.version_spans) == 2:
            old = case.expected(LONG_PROMPT, rollout, Sampling(), policy=old_policy)
            return rollout, old, case.expected(LONG_PROMPT, rollout, Sampling())
    raise AssertionError("no response was long enough to be under way during a commit")


async def test_a_paused_engine_holds_requests_until_it_is_resumed(case: Any) -> None:
    expected = await case.generate(PROMPT, n=2, seed=13)
    await case.engine.pause()
    held = asyncio.ensure_future(case.generate(PROMPT, n=2, seed=13))
    await case.publish()
    assert not held.done()
    await case.engine.resume()
    rollouts = await held
    assert rollouts[0].min_policy_version == case.engine.policy_version
    assert same_tokens(rollouts, expected) == case.has_model


async def test_weights_of_another_model_are_refused_before_they_are_received(case: Any) -> None:
    if not case.has_model:
        pytest.skip("a script has no parameters")
    layout = case.policy.layout()
    short = type(layout)(buckets=layout.buckets[:-1])
    with pytest.raises(EngineRefused, match=r"must be those of the served model: \d+ missing"):
        await case.engine.stage_weights(short, case.engine.policy_version + 1)


async def test_closing_an_engine_fails_its_requests(case: Any) -> None:
    """Last in this file: the engine is gone afterwards."""
    held = None
    if case.has_model:
        held = asyncio.ensure_future(case.generate(PROMPT, n=4, max_response_tokens=400))
        await case.generate(PROMPT, n=1, max_response_tokens=1)
    await case.engine.close()
    with pytest.raises(RunFailed, match=r"rollout: the .* engine"):
        await (held or case.generate(PROMPT))
    with pytest.raises(RunFailed, match=r"rollout: the .* engine"):
        await case.generate(PROMPT)
    del held
    # vLLM leaves its message context to the collector: now, where its warning is expected, not in another test.
    gc.collect()
