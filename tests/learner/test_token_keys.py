"""Keys of tokens: what they follow from, and what they must not."""

import dataclasses

import torch
from learner_builders import make_batch, make_sample

from learner.batch_plan import Layout
from learner.collate import collate
from learner.token_keys import token_keys
from shaping.training import TrainingSample


def keys_of(samples: list[TrainingSample], layout: Layout = "packed", *, step: int = 0, update: int = 0) -> list[int]:
    return token_keys(collate(samples, layout), step=step, update=update).tolist()


def test_keys_follow_their_tokens_through_any_layout_order_and_division() -> None:
    samples = make_batch(6, num_hint=2)
    alone = [keys_of([sample]) for sample in samples]
    whole = [key for keys in alone for key in keys]
    assert len(whole) == sum(sample.num_valid_tokens for sample in samples)
    assert keys_of(samples) == whole
    assert keys_of(samples, "padded") == whole
    assert keys_of(samples[2:5]) == [key for keys in alone[2:5] for key in keys]
    assert keys_of(samples[::-1]) == [key for keys in alone[::-1] for key in keys]


def test_no_two_tokens_have_one_key_and_bits_are_even() -> None:
    # two samples of each seed differ in nothing but their advantage
    samples = [make_sample(num_response=200, seed=seed, advantage=sign) for seed in range(25) for sign in (1.0, -1.0)]
    keys = torch.tensor(keys_of(samples))
    assert len(keys.unique()) == 10_000
    shares = torch.stack([(keys >> bit & 1).double().mean() for bit in range(64)])
    # the standard deviation of such a share is 0.005
    assert float((shares - 0.5).abs().max()) < 0.02


def test_tokens_that_are_alike_but_for_the_rest_of_their_response_have_keys_of_their_own() -> None:
    first = make_sample(num_response=5)
    other = dataclasses.replace(first, token_ids=first.token_ids.copy())
    other.token_ids[-1] += 1
    assert not set(keys_of([first])) & set(keys_of([other]))
    assert keys_of([first]) == keys_of([dataclasses.replace(first, group_id="other", rollout_index=7)])


def test_every_update_has_keys_of_its_own() -> None:
    samples = make_batch(3)
    moments = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    found = [key for step, update in moments for key in keys_of(samples, step=step, update=update)]
    assert len(set(found)) == len(found)


def test_nothing_trained_has_no_keys() -> None:
    assert keys_of([make_sample(trained=False)]) == []
    assert keys_of([]) == []
