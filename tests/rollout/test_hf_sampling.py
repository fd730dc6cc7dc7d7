"""The sampling rule of the hf engine: truncation, draws and version spans. Whole responses: tests/contracts."""

import math

import numpy as np
import pytest
import torch

from rollout.hf_sampling import draw_tokens, processed_logprobs, spans_of
from rollout.proof import processed_logprobs as reference
from shaping.records import Sampling, VersionSpan


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 1.5, "top_k": 20, "top_p": 0.8}]
)
def test_truncation_equals_the_reference(options: dict[str, float]) -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 2
    sampling = Sampling(**options)  # type: ignore[arg-type]
    found = processed_logprobs(logits, sampling).numpy()
    expected = reference(
        logits.double().log_softmax(-1).numpy(),
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
    )
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-6)


def test_a_draw_picks_the_token_whose_share_of_the_unit_interval_holds_it() -> None:
    """Shares [0, 1/2), [1/2, 3/4), nothing, [3/4, 1)."""
    row = torch.tensor([0.5, 0.25, 0.0, 0.25]).log()
    draws = torch.tensor([0.0, 0.499, 0.501, 0.749, 0.751, 1 - 2**-53], dtype=torch.float64)
    assert draw_tokens(row.expand(6, -1), draws).tolist() == [0, 0, 1, 1, 3, 3]


def test_an_impossible_first_token_is_never_drawn() -> None:
    row = torch.tensor([[0.0, 1.0]]).log()
    assert draw_tokens(row, torch.zeros(1, dtype=torch.float64)).tolist() == [1]


def test_draws_follow_the_probabilities() -> None:
    """10,000 draws of p = 0.2: standard deviation 0.004; six of them is 0.024."""
    row = torch.tensor([0.2, 0.8]).log().expand(10_000, -1)
    draws = torch.rand(10_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert math.isclose(float((draw_tokens(row, draws) == 0).double().mean()), 0.2, abs_tol=0.024)


def test_spans_are_runs_of_equal_versions() -> None:
    assert spans_of([]) == ()
    assert spans_of([3]) == (VersionSpan(start=0, stop=1, policy_version=3),)
    assert spans_of([3, 3, 4, 6, 6]) == (
        VersionSpan(start=0, stop=2, policy_version=3),
        VersionSpan(start=2, stop=3, policy_version=4),
        VersionSpan(start=3, stop=5, policy_version=6),
    )
