"""The learner's options as DeepSpeed writes them: a pure function, so that it can be read and tested without it."""

from typing import Any

from learner.config import LearnerConfig

BYTES_PER_GRADIENT = {"float32": 4, "bfloat16": 2}
PREFETCH_DIVISOR = 10
"""DeepSpeed's own proportion of the bucket that gradients are reduced in to the one that is gathered ahead."""


def deepspeed_config(config: LearnerConfig, *, sub_group_elements: int = 1_000_000_000) -> dict[str, Any]:
    """ZeRO-3 with gradient accumulation left to us.

    DeepSpeed is told one micro-batch per update (its own division by accumulation steps is then 1) and is told the
    boundary by hand; its batch sizes are not read by anything and only have to agree with each other. DeepSpeed counts
    its bucket sizes in elements.

    Args:
        sub_group_elements: of one rank, which the optimizer updates together.
    """
    zero = config.zero
    width = BYTES_PER_GRADIENT[config.dtype]
    stage: dict[str, Any] = {
        "stage": 3,
        "contiguous_gradients": True,
        "overlap_comm": False,
        "reduce_bucket_size": max(1, zero.reduce_bucket_bytes // width),
        "stage3_prefetch_bucket_size": zero.reduce_bucket_bytes // PREFETCH_DIVISOR // width,
        "stage3_param_persistence_threshold": zero.persistence_threshold,
        "sub_group_size": sub_group_elements,
    }
    if zero.offload_optimizer:
        stage["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    if zero.offload_parameters:
        stage["offload_param"] = {"device": "cpu", "pin_memory": False}
    options: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optimizer.max_grad_norm,
        "zero_optimization": stage,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }
    if config.dtype == "bfloat16":
        options["bf16"] = {"enabled": True}
        options["data_types"] = {"grad_accum_dtype": "fp32"}
    return options


def reference_config(config: LearnerConfig) -> dict[str, Any]:
    """Options of the frozen reference model: the same partitioning, and nothing to optimize."""
    options = deepspeed_config(config)
    options["gradient_clipping"] = 0.0
    options["zero_optimization"].pop("offload_optimizer", None)
    return options
