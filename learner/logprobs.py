"""Log-probability of each target token and entropy of its distribution, without a [T, V] tensor.

Logits exist for one tile at a time, some tokens by some of the vocabulary, in the forward pass and again in the
backward pass, which recomputes them. The forward pass keeps three numbers per token from tile to tile (an online
softmax, Milakov and Gimelshein 2018, arXiv:1805.02867, with a sum more for the entropy):

    m = max_v z_v        s = sum_v exp(z_v - m)        u = sum_v exp(z_v - m) (z_v - m)

    log p(y) = z_y - m - log s        H = log s - u / s

The gradients are written by hand:

    d log p(y) / d z_v = 1[v = y] - p_v        d H / d z_v = -p_v (log p_v + H)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

MAX_TILE_LOGITS = 1 << 22
"""Logits that exist at one time: 17 MB in float32, and twice that while entropies are taken."""


def token_logprobs_and_entropies(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    entropy_temperature: float,
    chunk_tokens: int,
    max_tile_logits: int = MAX_TILE_LOGITS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in one pass over the vocabulary; differentiable, once, in `hidden` and `weight`.

    Args:
        hidden: [S, D], the final hidden states whose next token is scored.
        weight: [V, D], the output embedding.
        targets: [S] int64, the tokens scored.
        temperature: logits are divided by it for the log-probability.
        entropy_temperature: likewise for the entropy; 1 gives the model's own distribution.
        chunk_tokens: most tokens of a tile.
        max_tile_logits: tokens times vocabulary entries of a tile.
    Returns:
        log-probabilities and entropies, natural log, both [S], float32 (float64 for float64 input).
    """
    tiling = _Tiling(len(targets), len(weight), chunk_tokens, max_tile_logits)
    logprobs, entropies = _TiledScores.apply(hidden, weight, targets, temperature, entropy_temperature, tiling)
    return logprobs, entropies


class _Tiling:
    """Tokens and vocabulary in equal pieces, the last ones shorter."""

    def __init__(self, num_tokens: int, vocab_size: int, chunk_tokens: int, max_logits: int) -> None:
        self._num_tokens, self._vocab_size = num_tokens, vocab_size
        self._chunk = min(chunk_tokens, num_tokens)
        self._width = min(max(max_logits // self._chunk, 1), vocab_size)

    def rows(self) -> Iterator[slice]:
        for start in range(0, self._num_tokens, self._chunk):
            yield slice(start, min(start + self._chunk, self._num_tokens))

    def columns(self) -> Iterator[slice]:
        for start in range(0, self._vocab_size, self._width):
            yield slice(start, min(start + self._width, self._vocab_size))

    def buffer(self, like: torch.Tensor) -> torch.Tensor:
        """Room for one tile, used again by all of them: the system zeroes fresh pages, which costs like a pass."""
        return torch.empty(self._chunk * self._width, dtype=like.dtype, device=like.device)


class _Softmax:
    """m, s and u of each token's logits over a temperature."""

    def __init__(self, temperature: float, like: torch.Tensor) -> None:
        self.temperature = temperature
        self.highest = torch.full_like(like, torch.finfo(like.dtype).min)
        self.total, self.moment = torch.zeros_like(like), torch.zeros_like(like)

    def add(self, rows: slice, logits: torch.Tensor, spare: torch.Tensor) -> None:
        """Take in the logits of some tokens for more of the vocabulary; both arguments are written over."""
        scaled = _divide(logits, self.temperature)
        highest = torch.maximum(self.highest[rows], scaled.amax(1))
        drop = self.highest[rows] - highest
        scaled.sub_(highest[:, None])
        torch.exp(scaled, out=spare)
        total = spare.sum(1)
        moment = spare.mul_(scaled).sum(1)
        self.moment[rows] = (self.moment[rows] + drop * self.total[rows]) * drop.exp() + moment
        self.total[rows] = self.total[rows] * drop.exp() + total
        self.highest[rows] = highest

    def logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        """[S] log-probabilities of tokens with these logits."""
        return logits / self.temperature - self.highest - self.total.log()

    def entropies(self) -> torch.Tensor:
        # Rounding alone could make it negative.
        return (self.total.log() - self.moment / self.total).clamp_min(0)


@dataclass(frozen=True, slots=True)
class _Term:
    """A gradient exp(z / temperature - highest) (constant + slope (z / temperature - highest)); columns [S, 1]."""

    temperature: float
    highest: torch.Tensor
    constant: torch.Tensor
    slope: torch.Tensor | None

    def write(self, rows: slice, logits: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
        """Of one tile, in the place of its logits."""
        shifted = _divide(logits, self.temperature).sub_(self.highest[rows])
        if self.slope is None:
            return shifted.exp_().mul_(self.constant[rows])
        torch.exp(shifted, out=spare)
        return torch.addcmul(self.constant[rows], self.slope[rows], shifted, out=shifted).mul_(spare)


class _TiledScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        entropy_temperature: float,
        tiling: _Tiling,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        target_logits = torch.empty(len(targets), dtype=wide, device=hidden.device)
        sampled = _Softmax(temperature, target_logits)
        own = sampled if entropy_temperature == temperature else _Softmax(entropy_temperature, target_logits)
        buffer, spare = tiling.buffer(target_logits), tiling.buffer(target_logits)
        for columns in tiling.columns():
            for rows in tiling.rows():
                logits = _logits(hidden[rows], weight[columns], buffer)
                inside, local = _within(targets[rows], columns)
                picked = logits.gather(1, local[:, None])[:, 0]
                target_logits[rows] = torch.where(inside, picked, target_logits[rows])
                if own is not sampled:
                    own.add(rows, logits, spare[: logits.numel()].view_as(logits))
                    logits = _logits(hidden[rows], weight[columns], buffer)
                sampled.add(rows, logits, spare[: logits.numel()].view_as(logits))
        logprobs, entropies = sampled.logprobs(target_logits), own.entropies()
        ctx.save_for_backward(
            hidden, weight, targets, sampled.highest, sampled.total, own.highest, own.total, entropies
        )
        ctx.temperatures, ctx.tiling = (temperature, entropy_temperature), tiling
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    def backward(
        ctx: Any, grad_logprobs: torch.Tensor | None, grad_entropies: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets, *statistics = ctx.saved_tensors
        terms = _terms(ctx.temperatures, statistics, grad_logprobs, grad_entropies)
        # Sums over tiles are in the wide type: a bfloat16 running sum would lose small parts.
        wide = statistics[0].dtype
        grad_hidden = torch.zeros_like(hidden, dtype=wide) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        buffers = [ctx.tiling.buffer(statistics[0]) for _ in range(3 if len(terms) == 2 else 2)]
        for columns in ctx.tiling.columns() if terms else ():
            block = None if grad_weight is None else grad_weight[columns].to(wide)
            for rows in ctx.tiling.rows():
                parts = []
                for term, buffer in zip(terms, buffers[1:], strict=False):
                    logits = _logits(hidden[rows], weight[columns], buffer)
                    parts.append(term.write(rows, logits, buffers[0][: logits.numel()].view_as(logits)))
                gradient = parts[0] if len(parts) == 1 else parts[0].add_(parts[1])
                if grad_logprobs is not None:
                    inside, local = _within(targets[rows], columns)
                    own = torch.where(inside, grad_logprobs[rows] / ctx.temperatures[0], 0.0)
                    gradient.scatter_add_(1, local[:, None], own[:, None])
                narrow = gradient.to(weight.dtype)
                if grad_hidden is not None:
                    _add_product(grad_hidden[rows], narrow, weight[columns])
                if block is not None:
                    _add_product(block, narrow.t(), hidden[rows])
            if grad_weight is not None:
                grad_weight[columns] = block
        return grad_hidden if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, None, None, None, None


def _terms(
    temperatures: tuple[float, float],
    statistics: list[torch.Tensor],
    grad_logprobs: torch.Tensor | None,
    grad_entropies: torch.Tensor | None,
) -> list[_Term]:
    """What the gradient of the logits is made of, the target's own part left out; one term where one will do."""
    highest, total, own_highest, own_total, entropies = (each[:, None] for each in statistics)
    terms = []
    if grad_logprobs is not None:
        terms.append(_Term(temperatures[0], highest, -grad_logprobs[:, None] / (total * temperatures[0]), None))
    if grad_entropies is not None:
        slope = -grad_entropies[:, None] / (own_total * temperatures[1])
        constant = slope * (entropies - own_total.log())
        if terms and temperatures[0] == temperatures[1]:
            constant = constant + terms.pop().constant
        terms.append(_Term(temperatures[1], own_highest, constant, slope))
    return terms


def _logits(hidden: torch.Tensor, weight: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """[rows, columns] in the wide type; the matrix product stays in the model's own type, as in the sampler."""
    out = buffer[: len(hidden) * len(weight)].view(len(hidden), len(weight))
    if out.dtype == hidden.dtype:
        return torch.mm(hidden, weight.t(), out=out)
    return out.copy_(hidden @ weight.t())


def _divide(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return logits if temperature == 1.0 else logits.div_(temperature)


def _within(targets: torch.Tensor, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Which targets lie in this part of the vocabulary, and where in it; 0 for the others."""
    inside = (targets >= columns.start) & (targets < columns.stop)
    return inside, torch.where(inside, targets - columns.start, 0)


def _add_product(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if out.dtype == left.dtype:
        out.addmm_(left, right)
    else:
        out += left @ right
