"""Log-probability of each target token and entropy of its distribution, without a [T, V] tensor.

Logits exist for one chunk of tokens at a time, in the forward pass and again in the backward pass, which recomputes
them. The gradients are written by hand:

    d log p(y) / d z_v = 1[v = y] - p_v        d H / d z_v = -p_v (log p_v + H)
"""

import torch


def token_logprobs_and_entropies(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    entropy_temperature: float,
    chunk_tokens: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in one pass over the vocabulary; differentiable in `hidden` and `weight`.

    Args:
        hidden: [S, D], the final hidden states whose next token is scored.
        weight: [V, D], the output embedding.
        targets: [S] int64, the tokens scored.
        temperature: logits are divided by it for the log-probability.
        entropy_temperature: likewise for the entropy; 1 gives the model's own distribution.
        chunk_tokens: tokens whose logits exist at one time.
    Returns:
        log-probabilities and entropies, natural log, both [S], float32 (float64 for float64 input).
    """
    logprobs, entropies = _ChunkedScores.apply(hidden, weight, targets, temperature, entropy_temperature, chunk_tokens)
    return logprobs, entropies


class _ChunkedScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        entropy_temperature: float,
        chunk_tokens: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logprobs = torch.empty(len(targets), dtype=wide, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        for start in range(0, len(targets), chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            log_p = _log_softmax(hidden[rows], weight, temperature, wide)
            logprobs[rows] = log_p.gather(1, targets[rows, None])[:, 0]
            if entropy_temperature != temperature:
                log_p = _log_softmax(hidden[rows], weight, entropy_temperature, wide)
            entropies[rows] = -(log_p.exp() * log_p).sum(1)
        ctx.save_for_backward(hidden, weight, targets, entropies)
        ctx.temperatures = (temperature, entropy_temperature)
        ctx.chunk_tokens = chunk_tokens
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx,
        grad_logprobs: torch.Tensor | None,
        grad_entropies: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets, entropies = ctx.saved_tensors
        grad_hidden = torch.zeros_like(hidden)
        # Summed over chunks in the wide type: a bfloat16 running sum would lose the small chunks.
        grad_weight = torch.zeros(weight.shape, dtype=entropies.dtype, device=weight.device)
        for start in range(0, len(targets), ctx.chunk_tokens):
            rows = slice(start, start + ctx.chunk_tokens)
            grad_logits = torch.zeros(1, dtype=entropies.dtype, device=hidden.device)
            if grad_logprobs is not None:
                grad_logits = _logprob_gradient(
                    _log_softmax(hidden[rows], weight, ctx.temperatures[0], entropies.dtype),
                    targets[rows],
                    grad_logprobs[rows] / ctx.temperatures[0],
                )
            if grad_entropies is not None:
                grad_logits = grad_logits + _entropy_gradient(
                    _log_softmax(hidden[rows], weight, ctx.temperatures[1], entropies.dtype),
                    entropies[rows],
                    grad_entropies[rows] / ctx.temperatures[1],
                )
            if grad_logits.dim() == 1:
                break
            narrow = grad_logits.to(weight.dtype)
            grad_hidden[rows] = narrow @ weight
            grad_weight += narrow.t() @ hidden[rows]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None, None


def _log_softmax(hidden: torch.Tensor, weight: torch.Tensor, temperature: float, wide: torch.dtype) -> torch.Tensor:
    """[rows, V] in the wide type; the matrix product stays in the model's own type, as in the sampler."""
    logits = (hidden @ weight.t()).to(wide)
    return torch.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=1)


def _logprob_gradient(log_p: torch.Tensor, targets: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    out = log_p.exp_().mul_(-grad[:, None])
    return out.scatter_add_(1, targets[:, None], grad[:, None])


def _entropy_gradient(log_p: torch.Tensor, entropies: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    return log_p.exp().mul_(log_p.add_(entropies[:, None])).mul_(-grad[:, None])
