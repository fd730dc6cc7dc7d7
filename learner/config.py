"""What a recipe may say of the learner."""

from dataclasses import dataclass, field
from typing import Literal

from shaping.components import ComponentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW.

    Args:
        learning_rate: a number, or a schedule over learner steps.
        beta1, beta2: decay of the first and second moment.
        epsilon: added to the root of the second moment.
        weight_decay: decoupled, on every parameter.
        max_grad_norm: the gradient is scaled down to this global norm; 0 clips nothing.
    """

    learning_rate: float | ComponentSpec = 1e-6
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be > 0, got {self.epsilon}")
        if isinstance(self.learning_rate, int | float) and self.learning_rate < 0:
            raise ValueError(f"learning_rate must be >= 0, got {self.learning_rate}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KLConfig:
    """KL to the frozen starting policy, as a loss term.

    Args:
        coefficient: weight of the term; 0 loads no reference model.
        estimator: k1 = log(pi/ref), k2 = log(pi/ref)^2 / 2, k3 = ref/pi - 1 - log(ref/pi) (Schulman 2020).
    """

    coefficient: float = 0.0
    estimator: Literal["k1", "k2", "k3"] = "k3"

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ValueError(f"coefficient must be >= 0, got {self.coefficient}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroConfig:
    """ZeRO-3 options.

    Args:
        offload_optimizer: keep optimizer state in host memory.
        offload_parameters: keep parameters in host memory.
        reduce_bucket_bytes: gradients reduced together; a tenth of it is gathered of parameters ahead of their use.
        persistence_threshold: parameters with fewer elements stay whole on every rank.
    """

    offload_optimizer: bool = False
    offload_parameters: bool = False
    reduce_bucket_bytes: int = 500_000_000
    persistence_threshold: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionConfig:
    """Correction of the mismatch between the sampler's and the learner's log-probs of the same tokens.

    rho = exp(old - behavior log-prob) with `old_logprobs` "recompute". With "behavior" the loss's own ratio holds the
    mismatch: only "mask" is allowed, which then reads rho = exp(policy - behavior log-prob) at each update and weighs
    nothing. No gradient flows through rho, and the loss stays a mean over all trained tokens.

    Args:
        mode: "none"; "clamp" multiplies a token's loss by min(rho, high) (truncated importance sampling); "mask" leaves
            out tokens whose rho is outside [low, high] and multiplies the others by rho (masked importance sampling).
        level: "token", or "sequence": the product of rho over the trained tokens of a response, for all of them.
        low, high: bounds; low is used by "mask" only.
    """

    mode: Literal["none", "clamp", "mask"] = "none"
    level: Literal["token", "sequence"] = "token"
    low: float = 0.5
    high: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(f"low and high must satisfy 0 <= low < high, got {self.low} and {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (peft) instead of all weights.

    Args:
        rank: of the adapters; 0 trains all weights.
        alpha: adapters are scaled by alpha / rank.
        targets: names of the linear layers that get one.
        publish: "merged" sends whole weights to the engines; "adapter" sends A and B alone, which each engine adds to
            the starting weights that it reads from model.path.
    """

    rank: int = 0
    alpha: float = 32.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    publish: Literal["merged", "adapter"] = "merged"

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"rank must be >= 0, got {self.rank}")
        if self.alpha <= 0:
            raise ValueError(f"alpha must be > 0, got {self.alpha}")
        if not self.targets:
            raise ValueError("targets must name at least one layer")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """From training samples to new weights.

    Args:
        engine: "deepspeed" (ZeRO-3 over `num_ranks` processes) or "torch" (one process, for tests and house mode).
        dtype: "float32", or "bfloat16" with float32 master weights.
        mini_batch_groups: groups per optimizer update; divides the groups of a step. 0: the whole batch at once.
        num_epochs: passes over a batch.
        micro_batch_tokens: most tokens (padding included) in one forward pass of one rank.
        layout: "padded" rows, or "packed" into one row with block-diagonal attention.
        num_ranks: processes that train, one GPU each.
        gradient_checkpointing: recompute activations in the backward pass.
        loss: the policy loss.
        old_logprobs: what importance ratios are taken against: "behavior" log-probs of the sampler, or log-probs that
            the learner "recompute"s before the first update of a step (a forward pass more for each later update).
        correction: of the train/rollout mismatch.
        lora: low-rank adapters.
        regularisers: extra loss terms, in order.
        kl: to the starting policy.
        optimizer: AdamW.
        zero: ZeRO-3.
        logprob_chunk_tokens: tokens whose logits exist at one time, for a part of the vocabulary that keeps them under
            17 MB.
        token_plans: in order; weights multiply.
        bucket_bytes: size of one weight bucket on its way to the engines.
    """

    engine: Literal["deepspeed", "torch"] = "deepspeed"
    num_ranks: int = 1
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    mini_batch_groups: int = 0
    num_epochs: int = 1
    micro_batch_tokens: int = 16384
    layout: Literal["padded", "packed"] = "packed"
    logprob_chunk_tokens: int = 2048
    gradient_checkpointing: bool = False
    loss: ComponentSpec = field(default_factory=lambda: ComponentSpec(kind="ppo_clip"))
    old_logprobs: Literal["behavior", "recompute"] = "behavior"
    correction: CorrectionConfig = CorrectionConfig()
    lora: LoraConfig = LoraConfig()
    token_plans: tuple[ComponentSpec, ...] = ()
    regularisers: tuple[ComponentSpec, ...] = ()
    kl: KLConfig = KLConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    zero: ZeroConfig = ZeroConfig()
    bucket_bytes: int = 256_000_000

    def __post_init__(self) -> None:
        for name in ("num_ranks", "num_epochs", "micro_batch_tokens", "logprob_chunk_tokens", "bucket_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.mini_batch_groups < 0:
            raise ValueError(f"mini_batch_groups must be >= 0, got {self.mini_batch_groups}")
        if self.correction.mode == "clamp" and self.old_logprobs == "behavior":
            raise ValueError(
                "correction.mode clamp needs old_logprobs recompute: with behavior the loss's own ratio holds the "
                "mismatch, and a weight would count it twice; set old_logprobs to recompute, or mode to mask or none"
            )
