"""Causal attention in the learner's two layouts, given to transformers under one name.

Both layouts need no mask tensor: rows are padded on the right, where causality alone hides the padding, and a packed
row is attended sequence by sequence.
"""

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION_NAME = "lessrl_causal"


def register_attention() -> None:
    """Make `ATTENTION_NAME` known to transformers. Repeating it changes nothing."""
    AttentionInterface.register(ATTENTION_NAME, causal_attention)


def causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sequence_lengths: tuple[int, ...] | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal self-attention of padded rows, or of the sequences of one packed row.

    Args:
        query: [B, heads, L, head size]; `key` and `value` may have fewer heads (grouped queries).
        attention_mask: always None: transformers makes no mask for an attention it does not know.
        sequence_lengths: None for padded rows; otherwise lengths that sum to L, and B is 1.
    Returns:
        [B, L, heads, head size], and no attention weights.
    """
    assert attention_mask is None, f"{type(module).__name__} made an attention mask"
    if sequence_lengths is None:
        out = _sdpa(query, key, value, scaling)
    elif query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _flash_varlen(query, key, value, scaling, sequence_lengths), None
    else:
        parts = zip(*(tensor.split(sequence_lengths, dim=2) for tensor in (query, key, value)), strict=True)
        out = torch.cat([_sdpa(q, k, v, scaling) for q, k, v in parts], dim=2)
    return out.transpose(1, 2).contiguous(), None


def _sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)


def _flash_varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, lengths: tuple[int, ...]
) -> torch.Tensor:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    offsets[1:] = torch.tensor(lengths, dtype=torch.int32).cumsum(0)
    offsets = offsets.to(query.device, non_blocking=True)
    flat = [tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value)]
    longest = max(lengths)
    grouped = query.shape[1] != key.shape[1]
    out = varlen_attn(*flat, offsets, offsets, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=grouped)
    return out.unsqueeze(0)
