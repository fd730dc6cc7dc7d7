"""Records of hops 7 to 12: training samples, weight manifests, step results."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray, IntArray, check_floats, check_ids, require
from shaping.histograms import Histogram
from shaping.records import TokenSource


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSample:
    """One rollout as the learner reads it; all arrays [L] in token convention.

    Args:
        token_ids: int32, prompt, hint and response.
        loss_mask: bool, tokens the policy loss trains; only generated tokens.
        behavior_logprobs: float32; 0 where the token was not sampled.
        advantages: float32; 0 where the loss mask is False.
        entropies: float32 nats from the sampler; 0 where the token was not sampled.
        token_sources: uint8, values of TokenSource.
        min_policy_version: version at the first sampled token.
        hint_copies: samples of its group with the same hint, this one included; 1 without a hint. They may lie in
            different micro-batches and on different ranks.
    """

    group_id: str
    rollout_index: int
    token_ids: IntArray
    loss_mask: BoolArray
    behavior_logprobs: FloatArray
    advantages: FloatArray
    entropies: FloatArray
    token_sources: NDArray[np.uint8]
    min_policy_version: int
    hint_copies: int = 1

    def __post_init__(self) -> None:
        where = f"TrainingSample {self.group_id}/{self.rollout_index}"
        check_ids(self.token_ids, "token_ids", where)
        length = len(self.token_ids)
        for name in ("behavior_logprobs", "advantages", "entropies"):
            check_floats(getattr(self, name), length, name, where)
        for name in ("loss_mask", "token_sources"):
            require(len(getattr(self, name)) == length, f"{name} must have {length} entries", where)
        require(self.loss_mask.dtype == np.bool_, f"loss_mask must be bool, got {self.loss_mask.dtype}", where)
        generated = self.token_sources == TokenSource.GENERATED
        require(not bool((self.loss_mask & ~generated).any()), "only generated tokens may be trained", where)
        require(self.hint_copies >= 1, f"hint_copies must be >= 1, got {self.hint_copies}", where)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_valid_tokens(self) -> int:
        return int(self.loss_mask.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLayout:
    """Parameters that travel as one flat byte buffer, in order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterLayout:
    """Low-rank adapters: a target layer's weight is its starting value W + scaling * B A.

    Args:
        rank: A is [rank, in], B is [out, rank].
        targets: last parts of the names of the layers that have an adapter; every other parameter keeps its start.
    """

    rank: int
    scaling: float
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayout:
    """How all parameters of a policy are divided in buckets. Fixed for a run.

    Args:
        adapter: given where the buckets hold adapters, `<layer>.lora_A.weight` and `<layer>.lora_B.weight`; None where
            they hold whole weights.
    """

    buckets: tuple[BucketLayout, ...]
    adapter: AdapterLayout | None = None

    @property
    def num_bytes(self) -> int:
        return sum(bucket.num_bytes for bucket in self.buckets)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightManifest:
    """What the learner sent: an engine serves `policy_version` only after its own checksums agree.

    Args:
        checksums: per bucket of `layout`, xxh3_64 hex digest of the bucket's bytes.
    """

    policy_version: int
    layout: WeightLayout
    checksums: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.policy_version >= 0, f"policy_version must be >= 0, got {self.policy_version}", "WeightManifest")
        expected = len(self.layout.buckets)
        require(
            len(self.checksums) == expected,
            f"checksums must have {expected} entries, got {len(self.checksums)}",
            "WeightManifest",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChannel:
    """Where sender and receivers meet. Rank 0 sends; receiver ranks start at 1.

    Args:
        backend: "gloo" or "nccl" for process groups, "memory" inside one process.
        world_size: sender plus all engine workers.
        first_rank: the rank of this engine's first worker; 0 for the sender.
    """

    backend: str
    address: str
    port: int
    world_size: int
    first_rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAnswer:
    """What one engine sampled for the fixed canary prompt, for the learner to score under the same policy version.

    Args:
        prompt_ids: [L_p] int32.
        response_ids: [T] int32.
        behavior_logprobs: [T] float32.
        temperature: that it was sampled at.
    """

    prompt_ids: IntArray
    response_ids: IntArray
    behavior_logprobs: FloatArray
    temperature: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one learner step reports.

    Args:
        policy_version: the version that the step made: the number of finished learner steps.
        num_updates: optimizer updates that were taken (mini-batches times epochs).
        metrics: named numbers of the step; means are over valid tokens unless the catalogue says otherwise. None of a
            step with `skipped`.
        histograms: distributions of the step by name.
        skipped: one line on what was not finite, in which update and rollouts: that update and the later ones of the
            step were not taken, the counts above are of those before it. "" for a whole step.
    """

    policy_version: int
    num_updates: int
    num_valid_tokens: int
    metrics: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    skipped: str = ""
