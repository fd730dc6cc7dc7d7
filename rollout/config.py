"""What a recipe may say of rollout."""

from dataclasses import dataclass
from typing import Literal

from shaping.components import ComponentSpec
from shaping.records import EntropySource


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The sampler of one rollout worker.

    Args:
        kind: "vllm", "hf" (transformers, in process) or "scripted" (tests).
        dtype: of weights and activations.
        tensor_parallel_size: GPUs of one engine.
        max_num_seqs: responses decoded together.
        kv_cache_bytes: size of the KV cache; 0 leaves it to `gpu_memory_utilization`, which is refused on CPU.
        gpu_memory_utilization: share of the GPU that the engine may fill.
        enforce_eager: no graph capture and no compilation.
        max_proof_error: largest log-prob or entropy difference, in nats, that the proof at start accepts.
    """

    kind: Literal["vllm", "hf", "scripted"] = "vllm"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    tensor_parallel_size: int = 1
    max_num_seqs: int = 256
    kv_cache_bytes: int = 0
    gpu_memory_utilization: float = 0.9
    enforce_eager: bool = False
    max_proof_error: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("tensor_parallel_size", "max_num_seqs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.kv_cache_bytes < 0:
            raise ValueError(f"kv_cache_bytes must be >= 0, got {self.kv_cache_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How responses are sampled.

    Args:
        temperature: a number, or a schedule over learner steps.
        top_p: nucleus; 1 keeps every token.
        top_k: most likely tokens; 0 keeps every token.
        max_response_tokens: sampled tokens, hints not counted.
        stop: strings that end a response.
        entropy_source: raw is the softmax at temperature 1, which LESS needs; processed is what is sampled from.
    """

    temperature: float | ComponentSpec = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_response_tokens: int = 1024
    stop: tuple[str, ...] = ()
    entropy_source: EntropySource = EntropySource.RAW

    def __post_init__(self) -> None:
        if isinstance(self.temperature, int | float) and self.temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be >= 0, got {self.top_k}")
        if self.max_response_tokens < 1:
            raise ValueError(f"max_response_tokens must be >= 1, got {self.max_response_tokens}")
        if not all(self.stop):
            raise ValueError(f"stop strings must not be empty, got {list(self.stop)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """From prompts to groups.

    Args:
        num_workers: rollout workers, one engine each.
        groups_per_step: groups (prompts) that one learner step consumes.
        group_size: rollouts of a group under the default plan.
        max_prompt_tokens: prompts that are longer, with the longest hint of the plan, are left out and counted, or
            refused where every prompt is too long.
        plan: rounds in which a group is sampled.
        selector: which prompt comes next.
        memory: what is remembered of a prompt between its visits.
        prompt_template: how a prompt is written, and what ends its response beside the model's own end tokens.
    """

    engine: EngineConfig = EngineConfig()
    num_workers: int = 1
    groups_per_step: int
    group_size: int = 8
    sampling: SamplingConfig = SamplingConfig()
    max_prompt_tokens: int = 1024
    prompt_template: ComponentSpec = ComponentSpec(kind="chat")
    plan: ComponentSpec = ComponentSpec(kind="single_round")
    selector: ComponentSpec = ComponentSpec(kind="shuffled")
    memory: ComponentSpec = ComponentSpec(kind="last_values")

    def __post_init__(self) -> None:
        for name in ("num_workers", "groups_per_step", "group_size", "max_prompt_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
