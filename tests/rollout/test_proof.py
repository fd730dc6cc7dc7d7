"""The proof at start."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rollout.proof import entropy, processed_logprobs, prove
from shaping.errors import EngineRefused
from shaping.records import EntropySource, Sampling

PROBABILITIES = np.array([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]])
RAW = np.log(PROBABILITIES)


def run(**changes: Any) -> Any:
    """Tokens 0 and 3: log-probs ln 0.5 and ln 0.4; entropies 1.75 ln 2 and 1.27985 nats."""
    arguments = {
        "raw_logprobs": RAW,
        "expected_ids": np.array([0, 3], dtype=np.int32),
        "response_ids": np.array([0, 3], dtype=np.int32),
        "behavior_logprobs": np.array([math.log(0.5), math.log(0.4)], dtype=np.float32),
        "entropies": np.array([1.75 * math.log(2), 1.2798542], dtype=np.float32),
        "sampling": Sampling(),
        "max_error": 1e-6,
    }
    return prove(**{**arguments, **changes})


def test_the_entropy_of_a_row_is_minus_the_sum_of_p_log_p() -> None:
    """H(1/2, 1/4, 1/8, 1/8) = 1/2 + 2/4 + 3/8 + 3/8 = 1.75 bits."""
    np.testing.assert_allclose(entropy(RAW)[0], 1.75 * math.log(2), rtol=1e-12)


def test_impossible_tokens_add_nothing_to_the_entropy() -> None:
    with np.errstate(divide="ignore"):
        row = np.log(np.array([[0.5, 0.5, 0.0]]))
    np.testing.assert_allclose(entropy(row), [math.log(2)])


def test_top_k_keeps_ties() -> None:
    """Top 3 of (1/2, 1/4, 1/8, 1/8): the fourth equals the third and stays."""
    np.testing.assert_allclose(np.exp(processed_logprobs(RAW[:1], temperature=1, top_k=3, top_p=1)), PROBABILITIES[:1])
    two = np.exp(processed_logprobs(RAW[:1], temperature=1, top_k=2, top_p=1))
    np.testing.assert_allclose(two, [[2 / 3, 1 / 3, 0, 0]])


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    """0.4 + 0.3 = 0.7 < 0.75, so 0.2 is needed; 4/9, 3/9, 2/9 remain."""
    kept = np.exp(processed_logprobs(RAW[1:], temperature=1, top_k=0, top_p=0.75))
    np.testing.assert_allclose(kept, [[0, 2 / 9, 3 / 9, 4 / 9]])
    only = np.exp(processed_logprobs(RAW[1:], temperature=1, top_k=0, top_p=0.01))
    np.testing.assert_allclose(only, [[0, 0, 0, 1]])


def test_temperature_acts_before_top_p() -> None:
    """At T = 1/2 probabilities are squared: (16, 4, 1, 1) / 22; 16/22 = 0.727 already reaches 0.7, 0.5 would not."""
    kept = np.exp(processed_logprobs(RAW[:1], temperature=0.5, top_k=0, top_p=0.7))
    np.testing.assert_allclose(kept, [[1, 0, 0, 0]])


def test_right_numbers_are_proved_with_their_errors() -> None:
    result = run()
    assert result.num_tokens == 2
    assert result.max_logprob_error < 1e-7
    assert result.max_entropy_error < 1e-6


@pytest.mark.parametrize("wrong", ["behavior_logprobs", "entropies"])
def test_one_wrong_number_is_refused_with_both_errors(wrong: str) -> None:
    right = {
        "behavior_logprobs": np.array([math.log(0.5), math.log(0.4)], dtype=np.float32),
        "entropies": np.array([1.75 * math.log(2), 1.2798542], dtype=np.float32),
    }[wrong]
    with pytest.raises(EngineRefused, match=r"errors of \S*0\.01 and|and 0\.01 over 2 tokens"):
        run(**{wrong: right - np.array([0, 0.01], dtype=np.float32)})


def test_log_probs_of_the_untruncated_distribution_are_refused_under_truncation() -> None:
    with pytest.raises(EngineRefused, match="does not report what it samples from"):
        run(sampling=Sampling(top_k=2), max_error=1e-3)


def test_processed_entropies_are_checked_against_the_truncated_distribution() -> None:
    """Top 2: (2/3, 1/3) and (3/7, 4/7)."""
    sampling = Sampling(top_k=2, entropy_source=EntropySource.PROCESSED)
    entropies = [math.log(3) - 2 / 3 * math.log(2), math.log(7) - 3 / 7 * math.log(3) - 4 / 7 * math.log(4)]
    numbers = {
        "behavior_logprobs": np.log(np.array([2 / 3, 4 / 7], dtype=np.float32)),
        "entropies": np.array(entropies, dtype=np.float32),
    }
    assert run(sampling=sampling, **numbers).max_entropy_error < 1e-6
    with pytest.raises(EngineRefused):
        run(sampling=replace(sampling, entropy_source=EntropySource.RAW), **numbers)


def test_a_token_at_the_edge_of_the_nucleus_may_be_in_or_out() -> None:
    """0.4 + 0.3 sums to 0.7 exactly: with top_p 0.7 float32 rounding decides whether 0.2 is kept."""
    common = {"raw_logprobs": RAW[[1, 1]], "sampling": Sampling(top_p=0.7), "max_error": 1e-6}
    ids = np.array([3, 3], dtype=np.int32)
    entropies = np.full(2, 1.2798542, dtype=np.float32)
    for share in (4 / 7, 4 / 9):
        logprobs = np.log(np.full(2, share, dtype=np.float32))
        run(expected_ids=ids, response_ids=ids, behavior_logprobs=logprobs, entropies=entropies, **common)


def test_tokens_after_the_first_that_differs_are_not_compared() -> None:
    expected = np.array([0, 3, 1], dtype=np.int32)
    raw = RAW[[0, 1, 0]]
    assert (
        run(raw_logprobs=raw, expected_ids=expected, response_ids=np.array([0, 3, 2], dtype=np.int32)).num_tokens == 2
    )


def test_an_engine_whose_seeds_do_not_repeat_is_refused() -> None:
    with pytest.raises(EngineRefused, match="one seed must give the same tokens twice"):
        run(response_ids=np.array([0, 2], dtype=np.int32))


def test_nan_is_not_right() -> None:
    with pytest.raises(EngineRefused):
        run(entropies=np.array([np.nan, 1.2798542], dtype=np.float32))
