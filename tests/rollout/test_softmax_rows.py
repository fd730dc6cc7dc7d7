"""Normalisers and entropies of rows of logits, against float64 log-softmax; the compiled loop and torch alike."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from rollout.compiled_rows import BLOCK, FLOOR
from rollout.softmax_rows import _torch_rows, softmax_rows

RowsOf = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
ROWS = pytest.mark.parametrize("rows_of", [softmax_rows, _torch_rows])


def make_logits(*shape: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale


def expected(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In float64, by way of the log-probs."""
    logprobs = logits.double().log_softmax(-1)
    entropies = torch.distributions.Categorical(logits=logits.double()).entropy()
    return (logits.double() - logprobs).amax(-1), entropies


@ROWS
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("width", [2, 300, BLOCK + 1, 151_936])
def test_rows_equal_float64_within_a_hundredth_of_the_allowed_error(rows_of: RowsOf, width: int, scale: float) -> None:
    """1e-4 nats are allowed; 1e-6 are reached."""
    logits = make_logits(3, width, scale=scale)
    normalisers, entropies = rows_of(logits)
    assert normalisers.dtype == torch.float64 and entropies.dtype == torch.float32
    torch.testing.assert_close(normalisers, expected(logits)[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(entropies.double(), expected(logits)[1], atol=1e-6, rtol=0)


@ROWS
def test_masked_tokens_add_nothing(rows_of: RowsOf) -> None:
    # Two tokens alike: ln 2 nats, log-sum-exp 1 + ln 2. One token: nothing to choose.
    normalisers, entropies = rows_of(torch.tensor([[1.0, 1.0, -torch.inf, -torch.inf], [-torch.inf, 5.0, -1e4, -1e9]]))
    assert normalisers.tolist() == pytest.approx([1 + math.log(2), 5.0], abs=1e-7)
    assert entropies.tolist() == pytest.approx([math.log(2), 0.0], abs=1e-7)


def test_the_compiled_exponential_holds_over_its_whole_range() -> None:
    """Two logits d apart: entropy is that of a coin with p = 1 / (1 + e^d)."""
    distances = np.linspace(0.0, -FLOOR - 1, 4001)
    logits = torch.tensor(np.stack([np.zeros_like(distances), -distances], axis=1), dtype=torch.float32)
    weights = np.exp(logits[:, 1].double().numpy())
    normalisers, entropies = softmax_rows(logits)
    np.testing.assert_allclose(normalisers.numpy(), np.log1p(weights), rtol=5e-7, atol=1e-7)
    np.testing.assert_allclose(
        entropies.numpy(), np.log1p(weights) + distances * weights / (1 + weights), rtol=1e-5, atol=2e-7
    )


def test_rows_that_lie_apart_equal_rows_that_touch() -> None:
    """vLLM pads a vocabulary of 300 to 320 and hands on the first 300 columns."""
    padded = make_logits(4, 320)
    for part in (padded[:, :300], padded.T, padded[:, ::2], padded[1:2, :300], padded[:1].expand(3, -1)):
        for found, wanted in zip(softmax_rows(part), softmax_rows(part.clone().contiguous()), strict=True):
            assert torch.equal(found, wanted)


def test_half_precision_is_measured_in_float32_chunk_by_chunk() -> None:
    wide = make_logits(3, 200_000).to(torch.bfloat16)
    for found, wanted in zip(softmax_rows(wide), softmax_rows(wide.float()), strict=True):
        assert torch.equal(found, wanted)


@ROWS
def test_a_row_without_a_distribution_is_nan_and_its_neighbours_are_not(rows_of: RowsOf) -> None:
    """A number would be taken for one. x86 makes nan with a sign, which comparisons of bits miss."""
    rows = [[0.0, 0.0], [-torch.inf, -torch.inf], [1.0, torch.nan], [-torch.nan, 1.0], [torch.inf, 0.0], [0.0, 0.0]]
    normalisers, entropies = rows_of(torch.tensor(rows))
    assert normalisers.isnan().tolist() == entropies.isnan().tolist() == [False, True, True, True, True, False]


def test_no_rows_give_nothing() -> None:
    for logits in (torch.zeros(0, 7), torch.zeros(0, 7, dtype=torch.float16), torch.zeros(2, 9)[:0, :7]):
        normalisers, entropies = softmax_rows(logits)
        assert normalisers.shape == entropies.shape == (0,)
