import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_builders import make_sample

from learner.collate import collate
from shaping.errors import RecordError
from shaping.records import TokenSource
from shaping.training import TrainingSample

shapes = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 7), st.booleans()), min_size=1, max_size=6
)
layouts = st.sampled_from(["padded", "packed"])


def make_samples(shapes: list[tuple[int, int, int, bool]]) -> list[TrainingSample]:
    return [
        make_sample(num_prompt=prompt, num_hint=hint, num_response=response, seed=index, trained=trained)
        for index, (prompt, hint, response, trained) in enumerate(shapes)
    ]


@given(shapes, layouts)
@settings(max_examples=100, deadline=None)
def test_the_hidden_state_before_a_token_scores_it(shapes: list, layout: str) -> None:
    samples = make_samples(shapes)
    batch = collate(samples, layout)
    flat_ids, flat_positions = batch.token_ids.flatten(), batch.position_ids.flatten()
    for row, target, sequence in zip(batch.score_rows, batch.targets, batch.sequence_ids, strict=True):
        if not bool(batch.loss_mask.any() | batch.hint_mask.any()):
            continue
        sample = samples[int(sequence)]
        position = int(flat_positions[row])
        assert int(flat_ids[row]) == int(sample.token_ids[position])
        assert int(target) == int(sample.token_ids[position + 1])


@given(shapes, layouts)
@settings(max_examples=100, deadline=None)
def test_every_value_stays_with_its_token(shapes: list, layout: str) -> None:
    samples = make_samples(shapes)
    batch = collate(samples, layout)
    for name, values in (
        ("behavior_logprobs", batch.behavior_logprobs),
        ("advantages", batch.advantages),
        ("entropies", batch.sampler_entropies),
        ("token_ids", batch.targets),
    ):
        expected = np.concatenate([getattr(sample, name)[sample.loss_mask] for sample in samples])
        np.testing.assert_array_equal(values[batch.loss_mask].numpy(), expected)
    num_valid = sum(sample.num_valid_tokens for sample in samples)
    num_hints = sum(int((sample.token_sources == TokenSource.HINT).sum()) for sample in samples)
    assert int(batch.loss_mask.sum()) == num_valid
    assert int(batch.hint_mask.sum()) == num_hints
    assert not bool((batch.loss_mask & batch.hint_mask).any())
    assert batch.num_scored == max(1, num_valid + num_hints)


@given(shapes)
@settings(max_examples=50, deadline=None)
def test_layouts_differ_only_in_where_tokens_lie(shapes: list) -> None:
    samples = make_samples(shapes)
    padded, packed = collate(samples, "padded"), collate(samples, "packed")
    for name in ("targets", "loss_mask", "hint_mask", "behavior_logprobs", "advantages", "sequence_ids"):
        assert torch.equal(getattr(padded, name), getattr(packed, name))
    assert torch.equal(padded.old_logprobs, padded.behavior_logprobs)
    assert padded.num_tokens == packed.num_tokens == packed.token_ids.numel() - packed.num_padding_tokens
    assert packed.num_padding_tokens == 0
    assert packed.sequence_lengths is not None and sum(packed.sequence_lengths) == packed.token_ids.shape[1]
    assert padded.sequence_lengths is None


def test_positions_restart_with_every_packed_sequence() -> None:
    samples = [make_sample(num_prompt=2, num_response=1), make_sample(num_prompt=1, num_response=1)]
    assert collate(samples, "packed").position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert collate(samples, "padded").position_ids.tolist() == [[0, 1, 2], [0, 1, 0]]


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_no_samples_still_score_one_token_that_counts_for_nothing(layout: str) -> None:
    batch = collate([], layout)
    assert batch.num_scored == 1
    assert not bool(batch.loss_mask.any()) and not bool(batch.hint_mask.any())
    assert batch.num_tokens == 0


def test_a_trained_first_token_is_refused() -> None:
    with pytest.raises(RecordError, match="nothing precedes it"):
        collate([make_sample(num_prompt=0, num_response=3)], "packed")
