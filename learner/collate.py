"""Training samples to the tensors of one forward pass.

The shift by one happens here and nowhere else: the hidden state of token t - 1 scores token t. Only tokens that some
loss reads are scored: trained ones and hints. Per-token tensors of a micro-batch are flat over the scored tokens, so
neither layout nor padding is visible behind this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from learner.batch_plan import Layout
from shaping.checks import require
from shaping.records import TokenSource
from shaping.training import TrainingSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Microbatch:
    """One forward pass of one rank. B rows of L positions; S >= 1 scored tokens in sample order.

    Args:
        token_ids, position_ids: [B, L] int64; positions restart with each sequence.
        sequence_lengths: lengths of the sequences of the single packed row; None for padded rows.
        score_rows: [S] int64, positions in the flattened [B * L] whose hidden state scores a token.
        targets: [S] int64, the tokens scored.
        loss_mask: [S] bool, tokens of the policy loss.
        hint_mask: [S] bool, hint tokens; never in `loss_mask`.
        hint_weights: [S] float32, 1 / samples that share the hint on hint tokens, 0 elsewhere: over a whole update the
            tokens of each hint of a group weigh 1.
        behavior_logprobs, advantages, sampler_entropies: [S] float32; 0 on hint tokens.
        old_logprobs: [S] float32, what importance ratios are taken against: the behavior log-probs, unless the learner
            puts its own in their place.
        sequence_ids: [S] int64, index of the sample within this micro-batch.
        num_tokens: tokens of samples in the forward pass.
        num_padding_tokens: positions that hold no token of a sample.
    """

    token_ids: torch.Tensor
    position_ids: torch.Tensor
    sequence_lengths: tuple[int, ...] | None
    score_rows: torch.Tensor
    targets: torch.Tensor
    loss_mask: torch.Tensor
    hint_mask: torch.Tensor
    hint_weights: torch.Tensor
    behavior_logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    advantages: torch.Tensor
    sampler_entropies: torch.Tensor
    sequence_ids: torch.Tensor
    num_tokens: int
    num_padding_tokens: int

    @property
    def num_scored(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Microbatch":
        """The same micro-batch on another device."""
        tensors = {
            item.name: value.to(device, non_blocking=True)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), torch.Tensor)
        }
        return replace(self, **tensors)


def collate(samples: Sequence[TrainingSample], layout: Layout) -> Microbatch:
    """Pad or pack samples and pick out the scored tokens.

    No samples, or none with a scored token, still give one scored token with every mask False: a rank without work
    takes part in the collectives of the others and adds nothing.

    Raises:
        RecordError: a sample's first token is to be trained; nothing precedes it.
    """
    lengths = [sample.num_tokens for sample in samples]
    if not any(lengths):
        return _dummy(layout)
    width = max(lengths)
    if layout == "packed":
        offsets = [int(offset) for offset in np.cumsum([0, *lengths[:-1]])]
        shape = (1, sum(lengths))
    else:
        offsets = [index * width for index in range(len(lengths))]
        shape = (len(lengths), width)
    token_ids = np.zeros(shape[0] * shape[1], dtype=np.int64)
    position_ids = np.zeros_like(token_ids)
    for sample, offset in zip(samples, offsets, strict=True):
        token_ids[offset : offset + sample.num_tokens] = sample.token_ids
        position_ids[offset : offset + sample.num_tokens] = np.arange(sample.num_tokens)
    scored = [_scored_tokens(sample) for sample in samples]
    if not any(len(each) for each in scored):
        scored[int(np.argmax(lengths))] = np.zeros(1, dtype=np.int64)
    behavior_logprobs = _picked(samples, scored, "behavior_logprobs")
    hint_mask = _picked(samples, scored, "token_sources") == int(TokenSource.HINT)
    shares = [np.full(len(each), 1 / sample.hint_copies) for sample, each in zip(samples, scored, strict=True)]
    return Microbatch(
        token_ids=torch.from_numpy(token_ids.reshape(shape)),
        position_ids=torch.from_numpy(position_ids.reshape(shape)),
        sequence_lengths=tuple(length for length in lengths if length) if layout == "packed" else None,
        score_rows=_joined([offset + np.maximum(each - 1, 0) for offset, each in zip(offsets, scored, strict=True)]),
        targets=_picked(samples, scored, "token_ids").long(),
        loss_mask=_picked(samples, scored, "loss_mask"),
        hint_mask=hint_mask,
        hint_weights=torch.where(hint_mask, _joined(shares), 0.0).float(),
        behavior_logprobs=behavior_logprobs,
        old_logprobs=behavior_logprobs,
        advantages=_picked(samples, scored, "advantages"),
        sampler_entropies=_picked(samples, scored, "entropies"),
        sequence_ids=_joined([np.full(len(each), index) for index, each in enumerate(scored)]),
        num_tokens=sum(lengths),
        num_padding_tokens=len(token_ids) - sum(lengths),
    )


def _scored_tokens(sample: TrainingSample) -> NDArray[np.int64]:
    wanted = sample.loss_mask | (sample.token_sources == TokenSource.HINT)
    where = f"TrainingSample {sample.group_id}/{sample.rollout_index}"
    require(not len(wanted) or not bool(wanted[0]), "the first token cannot be scored: nothing precedes it", where)
    return np.flatnonzero(wanted)


def _picked(samples: Sequence[TrainingSample], scored: Sequence[NDArray[np.int64]], name: str) -> torch.Tensor:
    return _joined([getattr(sample, name)[each] for sample, each in zip(samples, scored, strict=True)])


def _joined(parts: Sequence[NDArray[np.generic]]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts))


def _dummy(layout: Layout) -> Microbatch:
    zeros = torch.zeros(1)
    nothing = torch.zeros(1, dtype=torch.bool)
    return Microbatch(
        token_ids=torch.zeros(1, 2, dtype=torch.int64),
        position_ids=torch.arange(2)[None],
        sequence_lengths=(2,) if layout == "packed" else None,
        score_rows=torch.zeros(1, dtype=torch.int64),
        targets=torch.zeros(1, dtype=torch.int64),
        loss_mask=nothing,
        hint_mask=nothing,
        hint_weights=zeros,
        behavior_logprobs=zeros,
        old_logprobs=zeros,
        advantages=zeros,
        sampler_entropies=zeros,
        sequence_ids=torch.zeros(1, dtype=torch.int64),
        num_tokens=0,
        num_padding_tokens=2,
    )
