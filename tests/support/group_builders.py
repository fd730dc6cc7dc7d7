"""Small groups for tests: every argument has a default, and what a test states is all that matters to it."""

from collections.abc import Mapping, Sequence

import numpy as np

from shaping.groups import ScoredGroup, SegmentedGroup, Verdict, VerdictStatus
from shaping.kernels.base import SegmentRule
from shaping.records import EntropySource, Message, Prompt, Rollout, RolloutGroup, StopReason, VersionSpan
from shaping.rewards.base import RewardRequest
from shaping.segments import segment_group

VOCAB_SIZE = 1000


def make_prompt(*, prompt_id: str = "p", reference_answer: str = "5", position: int = 0) -> Prompt:
    messages = (Message(role="user", content="what is 2 + 3?"),)
    return Prompt(prompt_id=prompt_id, messages=messages, reference_answer=reference_answer, position=position)


def make_request(
    response_text: str = "",
    *,
    reference_answer: str = "5",
    prompt_id: str = "p",
    content: str = "what is 2 + 3?",
    num_tokens: int = 3,
    stop_reason: StopReason = StopReason.EOS,
    max_response_tokens: int = 0,
) -> RewardRequest:
    """What a reward is asked of this response."""
    return RewardRequest(
        prompt_id=prompt_id,
        messages=(Message(role="user", content=content),),
        reference_answer=reference_answer,
        response_text=response_text,
        num_tokens=num_tokens,
        stop_reason=stop_reason,
        max_response_tokens=max_response_tokens,
    )


def make_rollout(
    response_ids: Sequence[int] = (1, 2, 3),
    *,
    entropies: Sequence[float] | None = None,
    text: str = "",
    hint_ids: Sequence[int] = (),
    logprob: float = -0.5,
    stop_reason: StopReason = StopReason.EOS,
    policy_version: int = 0,
    entropy_source: EntropySource = EntropySource.RAW,
) -> Rollout:
    """A rollout of these tokens; entropies default to 0.1, 0.2, ..."""
    num_tokens = len(response_ids)
    nats = 0.1 * np.arange(1, num_tokens + 1) if entropies is None else np.asarray(entropies)
    spans = (VersionSpan(start=0, stop=num_tokens, policy_version=policy_version),) if num_tokens else ()
    return Rollout(
        hint_ids=np.asarray(hint_ids, np.int32),
        response_ids=np.asarray(response_ids, np.int32),
        response_text=text,
        behavior_logprobs=np.full(num_tokens, logprob, np.float32),
        entropies=nats.astype(np.float32),
        entropy_source=entropy_source,
        stop_reason=stop_reason,
        version_spans=spans,
    )


def make_group(
    rollouts: Sequence[Rollout] | None = None,
    *,
    prompt: Prompt | None = None,
    prompt_ids: Sequence[int] = (7, 8),
    group_id: str = "g",
    recalled: Mapping[str, float] | None = None,
    max_response_tokens: int = 0,
) -> RolloutGroup:
    return RolloutGroup(
        group_id=group_id,
        prompt=prompt or make_prompt(),
        prompt_ids=np.asarray(prompt_ids, np.int32),
        rollouts=tuple(rollouts if rollouts is not None else (make_rollout(), make_rollout())),
        vocab_size=VOCAB_SIZE,
        recalled=recalled or {},
        max_response_tokens=max_response_tokens,
    )


def make_scored(
    correct: Sequence[bool] = (True, False),
    *,
    rewards: Sequence[float] | None = None,
    rollouts: Sequence[Rollout] | None = None,
    recalled: Mapping[str, float] | None = None,
) -> ScoredGroup:
    """A scored group; rewards default to 1 for correct and 0 for wrong rollouts."""
    values = np.asarray(correct if rewards is None else rewards, np.float32)
    verdicts = tuple(Verdict(status=VerdictStatus.CORRECT if c else VerdictStatus.WRONG) for c in correct)
    group = make_group(rollouts if rollouts is not None else [make_rollout() for _ in correct], recalled=recalled)
    return ScoredGroup(group=group, rewards=values, reward_parts={"math_answer": values}, verdicts=verdicts)


def make_segmented(scored: ScoredGroup | None = None, *, min_length: int = 2, quantile: float = 0.8) -> SegmentedGroup:
    return segment_group(scored or make_scored(), SegmentRule(min_length=min_length, quantile=quantile))
