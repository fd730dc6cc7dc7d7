import pytest
import torch
from torch.distributions import Categorical

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
@pytest.mark.parametrize("chunk_tokens", [1, 4, 100])
def test_chunked_scores_and_gradients_equal_naive_ones(
    temperature: float, entropy_temperature: float, chunk_tokens: int
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
        )

    assert torch.autograd.gradcheck(scores, (hidden, weight))


def test_one_output_alone_has_its_own_gradient() -> None:
    hidden, weight, targets = make_inputs(torch.float32)
    for index in (0, 1):
        found = token_logprobs_and_entropies(
            hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=3
        )[index]
        expected = naive(hidden, weight, targets, 1.0, 1.0)[index]
        (gradient,) = torch.autograd.grad(found.sum(), hidden)
        (wanted,) = torch.autograd.grad(expected.sum(), hidden)
        torch.testing.assert_close(gradient, wanted, atol=2e-6, rtol=1e-5)


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
