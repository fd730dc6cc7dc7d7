"""What a learner step asks of its devices: memory, and the share of their arithmetic that trains the model."""

import torch

from learner.config import LearnerConfig
from shaping.metrics import Max, Mean, Metric

PEAK_FLOPS = (
    ("B200", 2250e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("GH200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L4", 121e12),
)
"""FLOP/s in bfloat16 without sparsity, by words of a device's name; of several the first.

Source: NVIDIA's data sheets, halved where they count sparsity.
"""


def peak_flops(device_name: str, dtype: str) -> float | None:
    """FLOP/s that a device can do at most; None where it is not known.

    Args:
        device_name: as its driver gives it, such as "NVIDIA H100 80GB HBM3".
        dtype: of the recipe; all but bfloat16 are unknown.
    """
    words = f" {device_name.replace('-', ' ')} "
    if dtype != "bfloat16" or " MIG " in words:
        return None
    return next((peak for name, peak in PEAK_FLOPS if f" {name} " in words), None)


def device_peak_flops(device: torch.device, dtype: str) -> float | None:
    """`peak_flops` of a device; None for a CPU."""
    return peak_flops(torch.cuda.get_device_name(device), dtype) if device.type == "cuda" else None


def begin_memory(device: torch.device) -> None:
    """A step begins: its peak is measured from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def memory_metrics(device: torch.device) -> dict[str, Metric]:
    """Bytes of one rank at the step's end, and their peak since `begin_memory`; nothing of a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "learner_memory_allocated_bytes": Max(torch.cuda.memory_allocated(device)),
        "learner_memory_reserved_bytes": Max(torch.cuda.memory_reserved(device)),
        "learner_memory_peak_bytes": Max(torch.cuda.max_memory_allocated(device)),
    }


def utilization_metrics(
    config: LearnerConfig, *, num_parameters: int, num_tokens: float, seconds: float, peak: float | None
) -> dict[str, Metric]:
    """Arithmetic that one rank's tokens need, beside what its device can do in that time; merges over ranks.

    A token needs 6 floating-point operations per parameter, 2 forward and 4 backward; under LoRA 4, for frozen weights
    get no gradient. Attention and what is computed twice to save memory are left out.
    Source: Kaplan et al. 2020 (arXiv:2001.08361), section 2.1; Chowdhery et al. 2022 (arXiv:2204.02311), appendix B.

    Args:
        num_parameters: of the whole policy.
        num_tokens: of this rank, in forward and backward passes, padding left out.
        peak: FLOP/s of its device; None says nothing.
    """
    if peak is None:
        return {}
    per_token = (4 if config.lora.rank else 6) * num_parameters
    return {"learner_model_flops_utilization_share": Mean(per_token * num_tokens, seconds * peak)}
