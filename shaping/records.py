"""Records of hops 1 to 3: prompt, request, rollout, group.

Letters: G rollouts of a group, T response tokens, K hint tokens, L prompt + hint + response tokens,
V vocabulary. Per-token arrays are in token convention: entry t belongs to token t; the shift by one
happens in the learner's collation and nowhere else. A record holds the earlier one and is never
filled in later; each validates itself when made and raises RecordError.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from shaping.checks import FloatArray, IntArray, check_floats, check_ids, require

ENTROPY_SLACK_NATS = 1e-4


class StopReason(StrEnum):
    """Why a response ended."""

    EOS = "eos"
    STOP_STRING = "stop_string"
    LENGTH = "length"


class EntropySource(StrEnum):
    """Of which distribution an entropy was measured.

    RAW is the model's own softmax at temperature 1 over the full vocabulary (what LESS needs);
    PROCESSED is the distribution sampled from: after temperature, top-k and top-p.
    """

    RAW = "raw"
    PROCESSED = "processed"


class TokenSource(IntEnum):
    """Provenance of a token in a training sample."""

    PROMPT = 0
    HINT = 1
    GENERATED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat turn."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A problem and what verifies it.

    Args:
        prompt_id: unique and stable in its data source.
        messages: chat turns; the last one is the user's.
        reference_answer: what rewards compare with; never empty.
        position: index in the source's current order, 0-based.
        solution_steps: ordered steps of a reference solution; empty when the source has none.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    reference_answer: str
    position: int
    solution_steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.prompt_id), "prompt_id must not be empty", "Prompt")
        require(bool(self.messages), "messages must not be empty", self.prompt_id)
        require(bool(self.reference_answer.strip()), "reference_answer must not be empty", self.prompt_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How responses are sampled. `top_k` 0 and `top_p` 1 mean: no truncation.

    A response ends with the model's own end-of-sequence tokens, with one of `stop_token_ids` (both EOS), or with the
    token that completes one of the strings `stop` (STOP_STRING); that last token is part of it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_response_tokens: int = 1024
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    entropy_source: EntropySource = EntropySource.RAW

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature must be > 0, got {self.temperature}", "Sampling")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}", "Sampling")
        require(self.top_k >= 0, f"top_k must be >= 0, got {self.top_k}", "Sampling")
        require(
            self.max_response_tokens >= 1,
            f"max_response_tokens must be >= 1, got {self.max_response_tokens}",
            "Sampling",
        )
        require(all(self.stop), f"stop strings must not be empty, got {self.stop}", "Sampling")
        require(
            all(each >= 0 for each in self.stop_token_ids),
            f"stop_token_ids must be >= 0, got {self.stop_token_ids}",
            "Sampling",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest:
    """One round of one group, as a rollout worker is asked for it.

    Args:
        prompt_ids: [L_p] int32, the rendered prompt.
        hint_ids: [K] int32, tokens of a reference solution that open the response; empty without a hint.
        round_index: 0-based round of the group's rollout plan.
        num_rollouts: rollouts to sample in this round.
        seed: base seed; rollout i of the round samples with its own stream derived from it.
        recalled: what the run remembers of the prompt, by name, as it was when the group was opened.
    """

    group_id: str
    prompt: Prompt
    prompt_ids: IntArray
    hint_ids: IntArray
    round_index: int
    num_rollouts: int
    sampling: Sampling
    seed: int
    recalled: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"GroupRequest {self.group_id}"
        check_ids(self.prompt_ids, "prompt_ids", where)
        check_ids(self.hint_ids, "hint_ids", where)
        require(len(self.prompt_ids) > 0, "prompt_ids must hold at least one token", where)
        require(self.num_rollouts >= 1, f"num_rollouts must be >= 1, got {self.num_rollouts}", where)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpan:
    """Response tokens [start, stop) were sampled by `policy_version`."""

    start: int
    stop: int
    policy_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled response to a prompt.

    Args:
        hint_ids: [K] int32, prefilled tokens of a reference solution; not sampled, never trained by the policy loss.
        response_ids: [T] int32, the sampled tokens, the end-of-sequence token included when it was sampled.
        response_text: the decoded response (hint not included), as rewards read it.
        behavior_logprobs: [T] float32, natural log, of the distribution sampled from.
        entropies: [T] float32 nats, over the full vocabulary, of the distribution `entropy_source` names.
        version_spans: tile [0, T) in order, versions never falling; empty only when T is 0.
    """

    hint_ids: IntArray
    response_ids: IntArray
    response_text: str
    behavior_logprobs: FloatArray
    entropies: FloatArray
    entropy_source: EntropySource
    stop_reason: StopReason
    version_spans: tuple[VersionSpan, ...]

    def __post_init__(self) -> None:
        check_ids(self.hint_ids, "hint_ids", "Rollout")
        check_ids(self.response_ids, "response_ids", "Rollout")
        num_tokens = len(self.response_ids)
        for name in ("behavior_logprobs", "entropies"):
            check_floats(getattr(self, name), num_tokens, name, "Rollout")
        if num_tokens:
            require(
                float(self.behavior_logprobs.max()) <= ENTROPY_SLACK_NATS, "behavior_logprobs must be <= 0", "Rollout"
            )
            require(float(self.entropies.min()) >= -ENTROPY_SLACK_NATS, "entropies must be >= 0", "Rollout")
        self._check_spans(num_tokens)

    def _check_spans(self, num_tokens: int) -> None:
        start, version = 0, 0
        for span in self.version_spans:
            require(
                span.start == start and span.stop > span.start,
                f"version spans must tile [0, {num_tokens}), found {span}",
                "Rollout",
            )
            require(
                span.policy_version >= version, f"policy versions must not fall, found {self.version_spans}", "Rollout"
            )
            start, version = span.stop, span.policy_version
        require(start == num_tokens, f"version spans end at {start}, the response has {num_tokens} tokens", "Rollout")

    @property
    def num_tokens(self) -> int:
        return len(self.response_ids)

    @property
    def min_policy_version(self) -> int:
        """Version at the first token; 0 tokens count as version 0."""
        return self.version_spans[0].policy_version if self.version_spans else 0

    @property
    def max_policy_version(self) -> int:
        return self.version_spans[-1].policy_version if self.version_spans else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutGroup:
    """All rollouts of one prompt: the unit that travels. Entropies are checked against ln V here.

    Args:
        recalled: of its request.
        max_response_tokens: of its sampling, the limit that a response of StopReason LENGTH met; 0 for none known.
    """

    group_id: str
    prompt: Prompt
    prompt_ids: IntArray
    rollouts: tuple[Rollout, ...]
    vocab_size: int
    recalled: Mapping[str, float] = field(default_factory=dict)
    max_response_tokens: int = 0

    def __post_init__(self) -> None:
        where = f"RolloutGroup {self.group_id}"
        check_ids(self.prompt_ids, "prompt_ids", where)
        require(len(self.rollouts) > 0, "a group must hold at least one rollout", where)
        require(self.vocab_size >= 2, f"vocab_size must be >= 2, got {self.vocab_size}", where)
        limit = math.log(self.vocab_size) + ENTROPY_SLACK_NATS
        for index, rollout in enumerate(self.rollouts):
            if rollout.num_tokens == 0:
                continue
            highest = float(rollout.entropies.max())
            require(
                highest <= limit,
                f"entropies must be <= ln {self.vocab_size} = {limit:.4f} nats, got {highest:.4f}",
                f"{where}, rollout {index}",
            )
            top_id = int(rollout.response_ids.max())
            require(
                top_id < self.vocab_size,
                f"token ids must be < {self.vocab_size}, got {top_id}",
                f"{where}, rollout {index}",
            )
        sources = {rollout.entropy_source for rollout in self.rollouts}
        require(len(sources) == 1, f"one entropy source per group, found {sorted(sources)}", where)

    @property
    def group_size(self) -> int:
        return len(self.rollouts)

    @property
    def min_policy_version(self) -> int:
        return min(rollout.min_policy_version for rollout in self.rollouts)

    @property
    def num_response_tokens(self) -> int:
        return sum(rollout.num_tokens for rollout in self.rollouts)


def merge_rounds(rounds: tuple[RolloutGroup, ...]) -> RolloutGroup:
    """One group out of the finished rounds of its rollout plan, in round order; of several response limits the largest.

    Raises:
        RecordError: rounds of different groups, prompts or vocabularies.
    """
    first = rounds[0]
    for other in rounds[1:]:
        require(
            other.group_id == first.group_id
            and other.prompt.prompt_id == first.prompt.prompt_id
            and other.vocab_size == first.vocab_size,
            f"rounds must belong to one group, found {first.group_id} and {other.group_id}",
            "merge_rounds",
        )
    if len(rounds) == 1:
        return first
    rollouts = tuple(rollout for each in rounds for rollout in each.rollouts)
    limit = max(each.max_response_tokens for each in rounds)
    return replace(first, rollouts=rollouts, max_response_tokens=limit)
