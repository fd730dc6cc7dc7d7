"""What a sampler needs of each row of logits, in one reading of it: log of the softmax's normaliser, and entropy.

Logits in, two numbers per row out; no [n, V] table of log-probs is written. On CPU a compiled loop that stays on vector
registers, on one thread; elsewhere torch.
"""

import torch

from shaping.components import import_module_of

CPU_CHUNK_ELEMENTS = 2**18
"""Rows in half precision are made float32 this many numbers at a time, which stay in a core's cache."""

GPU_CHUNK_ELEMENTS = 2**26
"""Bounds the float32 copies of [n, V] logits to 256 MiB each."""

FLOOR = -87.0
"""As in `compiled_rows`."""


def softmax_rows(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normaliser and entropy of the softmax of each row.

    Args:
        logits: [n, V], any float dtype; log-probs are logits too; -inf marks tokens that cannot be sampled.
    Returns:
        [n] float64 log-sum-exp, so that `logits[i, y] - result[i]` is a log-prob, and [n] float32 entropies in nats.
        Both nan where a row holds nan or no finite logit.
    """
    on_cpu = logits.device.type == "cpu"
    if on_cpu and logits.dtype == torch.float32 and logits.stride(-1) == 1:
        return _compiled_rows(logits)
    statistics_of = _compiled_rows if on_cpu else _torch_rows
    rows = max(1, (CPU_CHUNK_ELEMENTS if on_cpu else GPU_CHUNK_ELEMENTS) // logits.shape[-1])
    parts = [statistics_of(chunk.to(torch.float32).contiguous()) for chunk in logits.split(rows)]
    normalisers, entropies = zip(*parts, strict=True)
    return torch.cat(normalisers), torch.cat(entropies)


def _torch_rows(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    peaks = logits.amax(dim=-1, keepdim=True)
    # Clamping keeps nan, also that of -inf - -inf in a row without a finite logit.
    distances = (logits - peaks).clamp_min_(FLOOR)
    weights = distances.exp()
    totals = weights.sum(dim=-1).double()
    log_totals = totals.log()
    entropies = log_totals - weights.mul_(distances).sum(dim=-1).double() / totals
    return peaks[:, 0].double() + log_totals, entropies.float()


def _compiled_rows(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_torch_rows`, of float32 rows in main memory that may lie apart (vLLM cuts off a padded vocabulary)."""
    num_rows, width = logits.shape
    normalisers = torch.empty(num_rows, dtype=torch.float64)
    entropies = torch.empty(num_rows, dtype=torch.float32)
    if num_rows:
        stride = logits.stride(0)
        flat = logits.as_strided(((num_rows - 1) * stride + width,), (1,))
        peaks = logits.amax(dim=-1)
        # Late: vLLM's worker looks into all loaded modules as it starts, and numba's LLVM binding breaks that.
        fill_rows = import_module_of("rollout", "compiled_rows").fill_rows
        fill_rows(flat.numpy(), stride, width, peaks.numpy(), normalisers.numpy(), entropies.numpy())
    return normalisers, entropies
