"""Laws of training samples."""

import numpy as np
from group_builders import make_rollout, make_scored, make_segmented

from shaping.groups import ShapedGroup
from shaping.records import Rollout, TokenSource
from shaping.samples import to_samples


def make_shaped(rollouts: list[Rollout]) -> ShapedGroup:
    segmented = make_segmented(make_scored([True] * len(rollouts), rollouts=rollouts))
    base = tuple(np.full(rollout.num_tokens, 2.0, np.float32) for rollout in rollouts)
    factor = tuple(np.linspace(0, 1, rollout.num_tokens, dtype=np.float32) for rollout in rollouts)
    after = tuple(a * b for a, b in zip(base, factor, strict=True))
    return ShapedGroup(segmented=segmented, base_advantages=base, multipliers=factor, advantages=after)


def test_a_sample_is_prompt_hint_and_response_with_only_the_response_trained() -> None:
    # prompt 7 8 (the builder's default), hint 5, response 1 2 3 with multipliers 0, 0.5, 1 of advantage 2
    rollout = make_rollout([1, 2, 3], hint_ids=[5], entropies=[0.1, 0.2, 0.3], logprob=-0.5, policy_version=4)
    (sample,) = to_samples(make_shaped([rollout]))
    assert sample.token_ids.tolist() == [7, 8, 5, 1, 2, 3]
    assert sample.token_ids.dtype == np.int32
    sources = [TokenSource.PROMPT, TokenSource.PROMPT, TokenSource.HINT, *[TokenSource.GENERATED] * 3]
    assert sample.token_sources.tolist() == sources
    assert sample.loss_mask.tolist() == [False, False, False, True, True, True]
    assert sample.advantages.tolist() == [0, 0, 0, 0, 1, 2]
    assert sample.behavior_logprobs.tolist() == [0, 0, 0, -0.5, -0.5, -0.5]
    np.testing.assert_allclose(sample.entropies, [0, 0, 0, 0.1, 0.2, 0.3], rtol=1e-6)
    assert (sample.group_id, sample.rollout_index, sample.min_policy_version) == ("g", 0, 4)


def test_an_empty_response_gives_no_sample_and_others_keep_their_index() -> None:
    samples = to_samples(make_shaped([make_rollout([1]), make_rollout([]), make_rollout([2])]))
    assert [sample.rollout_index for sample in samples] == [0, 2]


def test_a_sample_knows_how_many_samples_of_its_group_share_its_hint() -> None:
    # hints 5 | 5 | 5 6 | 5 (without a sample: its response is empty) | none | none
    hints, responses = ([5], [5], [5, 6], [5], [], []), ([1], [2], [3], [], [4], [5])
    rollouts = [make_rollout(ids, hint_ids=hint) for hint, ids in zip(hints, responses, strict=True)]
    samples = to_samples(make_shaped(rollouts))
    assert [(sample.rollout_index, sample.hint_copies) for sample in samples] == [
        (0, 2),
        (1, 2),
        (2, 1),
        (4, 1),
        (5, 1),
    ]
