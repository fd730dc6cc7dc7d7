"""Random streams of requests. What a request may ask is in the engines' contract."""

import numpy as np

from rollout.request_checks import EngineLimits, stream_seed
from shaping.records import EntropySource, Sampling


def test_a_seed_always_names_the_same_stream() -> None:
    assert stream_seed(7) == stream_seed(7)


def test_neighbouring_seeds_share_no_streams() -> None:
    """Rollout i uses stream_seed + i: with seed + i alone, seeds 0 and 1 would share all but one."""
    streams = [stream_seed(seed) + index for seed in range(200) for index in range(64)]
    assert len(set(streams)) == len(streams)
    assert all(0 <= each < 2**63 for each in streams)


def test_the_budget_is_the_smaller_of_limit_and_room() -> None:
    limits = EngineLimits(vocab_size=10, max_model_tokens=20, entropy_source=EntropySource.RAW)
    prompt, hint = np.ones(6, dtype=np.int32), np.ones(4, dtype=np.int32)
    for limit, budget in ((5, 5), (10, 10), (64, 10)):
        sampling = Sampling(max_response_tokens=limit)
        found = limits.response_budget(prompt_ids=prompt, hint_ids=hint, num_rollouts=1, sampling=sampling)
        assert found == budget
