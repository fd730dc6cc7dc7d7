from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.distributions import Categorical
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from learner.logprobs import token_logprobs_and_entropies

S, D, V = 11, 6, 17


def make_inputs(dtype: torch.dtype, *, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(S, D, dtype=torch.float64, generator=generator) * scale
    weight = torch.randn(V, D, dtype=torch.float64, generator=generator)
    targets = torch.randint(V, (S,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def naive(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float, entropy_temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The independent answer: torch.distributions on the whole [S, V] logits."""
    logits = hidden @ weight.t()
    sampled = Categorical(logits=logits / temperature)
    return sampled.log_prob(targets), Categorical(logits=logits / entropy_temperature).entropy()


TEMPERATURES = [(1.0, 1.0), (0.7, 0.7), (0.7, 1.0), (1.3, 1.0)]


@pytest.mark.parametrize(("temperature", "entropy_temperature"), TEMPERATURES)
@pytest.mark.parametrize(("chunk_tokens", "max_tile_logits"), [(1, 1), (1, 17), (4, 20), (100, 30), (100, 1000)])
def test_tiled_scores_and_gradients_equal_naive_ones(
    temperature: float, entropy_temperature: float, chunk_tokens: int, max_tile_logits: int
) -> None:
    hidden, weight, targets = make_inputs(torch.float32)
    upstream = torch.randn(2, S, generator=torch.Generator().manual_seed(1))
    expected = torch.stack(naive(hidden, weight, targets, temperature, entropy_temperature))
    expected_gradients = torch.autograd.grad((expected * upstream).sum(), (hidden, weight))
    found = torch.stack(
        token_logprobs_and_entropies(
            hidden,
            weight,
            targets,
            temperature=temperature,
            entropy_temperature=entropy_temperature,
            chunk_tokens=chunk_tokens,
            max_tile_logits=max_tile_logits,
        )
    )
    gradients = torch.autograd.grad((found * upstream).sum(), (hidden, weight))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    for each, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(each, wanted, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "entropy_temperature"), TEMPERATURES)
def test_gradients_pass_a_numerical_check(temperature: float, entropy_temperature: float) -> None:
    hidden, weight, targets = make_inputs(torch.float64)

    def scores(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return token_logprobs_and_entropies(
            hidden,
            weight,
            targets,
            temperature=temperature,
            entropy_temperature=entropy_temperature,
            chunk_tokens=4,
            max_tile_logits=20,
        )

    assert torch.autograd.gradcheck(scores, (hidden, weight))


@pytest.mark.parametrize(("temperature", "entropy_temperature"), TEMPERATURES)
def test_one_output_alone_has_its_own_gradient(temperature: float, entropy_temperature: float) -> None:
    hidden, weight, targets = make_inputs(torch.float32)
    for index in (0, 1):
        found = token_logprobs_and_entropies(
            hidden,
            weight,
            targets,
            temperature=temperature,
            entropy_temperature=entropy_temperature,
            chunk_tokens=3,
            max_tile_logits=15,
        )[index]
        expected = naive(hidden, weight, targets, temperature, entropy_temperature)[index]
        (gradient,) = torch.autograd.grad(found.sum(), hidden)
        (wanted,) = torch.autograd.grad(expected.sum(), hidden)
        torch.testing.assert_close(gradient, wanted, atol=2e-6, rtol=1e-5)


def test_a_frozen_input_gets_no_gradient_and_changes_none() -> None:
    hidden, weight, targets = make_inputs(torch.float32)
    options = {"temperature": 1.0, "entropy_temperature": 1.0, "chunk_tokens": 4, "max_tile_logits": 20}
    both = torch.autograd.grad(
        token_logprobs_and_entropies(hidden, weight, targets, **options)[0].sum(), (hidden, weight)
    )
    for index in (0, 1):
        inputs = [hidden.detach(), weight.detach()]
        inputs[index].requires_grad_()
        token_logprobs_and_entropies(*inputs, targets, **options)[0].sum().backward()
        assert torch.equal(inputs[index].grad, both[index])
        assert inputs[1 - index].grad is None


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any result had while it was on."""

    num_elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        self.num_elements = max([self.num_elements, *sizes])
        return result


def test_no_tensor_is_larger_than_a_tile_or_the_inputs() -> None:
    # 200 tokens x 1000 entries would be 200,000; a tile is 40 x 12 = 480, the weight 1000 x 2
    hidden = torch.randn(200, 2, requires_grad=True)
    weight = torch.randn(1000, 2, requires_grad=True)
    with LargestTensor() as seen:
        logprobs, entropies = token_logprobs_and_entropies(
            hidden,
            weight,
            torch.arange(200),
            temperature=0.7,
            entropy_temperature=1.0,
            chunk_tokens=40,
            max_tile_logits=500,
        )
        (logprobs.sum() + entropies.sum()).backward()
    assert seen.num_elements == 2000


def test_a_logit_that_is_not_a_number_is_not_hidden() -> None:
    hidden, weight, targets = make_inputs(torch.float32)
    with torch.no_grad():
        hidden[3, 2] = torch.nan
    logprobs, entropies = token_logprobs_and_entropies(
        hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=4, max_tile_logits=20
    )
    assert torch.nonzero(logprobs.isnan())[:, 0].tolist() == torch.nonzero(entropies.isnan())[:, 0].tolist() == [3]


def test_a_certain_distribution_has_zero_entropy_and_finite_gradients() -> None:
    # logits hundreds apart: every other probability underflows to 0
    hidden, weight, targets = make_inputs(torch.float32, scale=300.0)
    logprobs, entropies = token_logprobs_and_entropies(
        hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=4
    )
    gradients = torch.autograd.grad((logprobs + entropies).sum(), (hidden, weight))
    assert float(entropies.detach().min()) >= 0
    assert float(entropies.detach().median()) == pytest.approx(0.0, abs=1e-5)
    assert all(bool(each.isfinite().all()) for each in gradients)


def test_bfloat16_inputs_give_float32_scores_near_the_exact_ones() -> None:
    hidden, weight, targets = make_inputs(torch.bfloat16)
    logprobs, entropies = token_logprobs_and_entropies(
        hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=4
    )
    exact = naive(hidden.double(), weight.double(), targets, 1.0, 1.0)
    assert logprobs.dtype == entropies.dtype == torch.float32
    # bfloat16 has 8 bits: logits of size about 5 are rounded by about 0.02
    torch.testing.assert_close(logprobs.double(), exact[0], atol=0.06, rtol=0)
    torch.testing.assert_close(entropies.double(), exact[1], atol=0.06, rtol=0)


def test_bfloat16_gradients_are_summed_over_tiles_without_rounding_each_sum() -> None:
    # 512 equal tokens in tiles of one: a bfloat16 sum of 512 equal numbers would stop at 256 of them.
    row, weight, _ = make_inputs(torch.bfloat16)
    hidden = row.detach()[:1].expand(512, D).contiguous().requires_grad_()
    logprobs, _ = token_logprobs_and_entropies(
        hidden,
        weight,
        torch.full((512,), 3),
        temperature=1.0,
        entropy_temperature=1.0,
        chunk_tokens=1,
        max_tile_logits=5,
    )
    logprobs.sum().backward()
    exact = row.detach()[:1].double(), weight.detach().double().requires_grad_()
    (512 * naive(*exact, torch.tensor([3]), 1.0, 1.0)[0]).sum().backward()
    error = (weight.grad.double() - exact[1].grad).norm() / exact[1].grad.norm()
    assert weight.grad.dtype == hidden.grad.dtype == torch.bfloat16
    assert float(error) < 0.02
