"""Whole weights out of a ZeRO-3 checkpoint, in one process that trains nothing."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

from learner.deepspeed_state import TAG


def saved_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Float32 values of what trains, by name in the policy, from the parts of all ranks.

    Args:
        directory: what `Learner.save` wrote.
    """
    # DeepSpeed prints what it finds; the output of our commands is our own.
    with redirect_stdout(sys.stderr):
        weights: dict[str, torch.Tensor] = get_fp32_state_dict_from_zero_checkpoint(
            str(directory), tag=TAG, exclude_frozen_parameters=True
        )
    return weights
