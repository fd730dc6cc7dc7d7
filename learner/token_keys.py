"""A key per token: the same however an update is divided into micro-batches and ranks, another one in every update.

Token plans that draw tokens at random rank them by key, so that a draw needs no generator and no checkpoint. On the CPU
and in numpy, where 64-bit arithmetic wraps by definition.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from learner.collate import Microbatch

Words = NDArray[np.uint64]


def token_keys(batch: Microbatch, *, step: int, update: int) -> torch.Tensor:
    """Keys of the trained tokens of a micro-batch, as good as random and fixed by what is trained alone.

    A key follows from the token, its position, behavior log-prob and advantage, from the same of all other scored
    tokens of its response, and from step and update. Responses that agree in all of these have equal keys.

    Args:
        batch: on the CPU.
        update: index within the step.
    Returns:
        [N] int64, N = trained tokens of the micro-batch, in their order.
    """
    positions = batch.position_ids.flatten()[batch.score_rows]
    words = _mix(_words(positions)) + _words(batch.targets)
    for values in (batch.behavior_logprobs, batch.advantages):
        words = _mix(words) + _words(values.view(torch.int32))
    words = _mix(words)
    samples = batch.sequence_ids.numpy()
    totals = np.zeros(int(samples.max()) + 1, np.uint64)
    np.add.at(totals, samples, words)
    moment = _mix(_mix(np.array([step], np.uint64)) + np.uint64(update))
    keys = _mix(words ^ _mix(totals + moment)[samples])
    return torch.from_numpy(keys.view(np.int64))[batch.loss_mask]


def _words(values: torch.Tensor) -> Words:
    words: Words = values.numpy().astype(np.uint64)
    return words


def _mix(words: Words) -> Words:
    """A bijection of 64-bit words in which each bit of the result depends on all bits of the argument.

    Source: Steele, Lea and Flood 2014 (SplitMix), with the constants of David Stafford's variant 13.
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
