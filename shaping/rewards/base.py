"""What a reward is: one response against one prompt, as words and counts, so that another process can judge it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shaping.groups import Verdict, VerdictStatus
from shaping.records import Message, Prompt, Rollout, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRequest:
    """What a reward may know of one response.

    Args:
        messages: the prompt's chat turns.
        num_tokens: length of the response.
        max_response_tokens: what sampling allowed it; 0 for no limit known.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    reference_answer: str
    response_text: str
    num_tokens: int
    stop_reason: StopReason
    max_response_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardResult:
    """A number and the verdict it follows from. Without a decided verdict the value is not read."""

    value: float
    verdict: Verdict


class Reward(Protocol):
    """One response to a number. Must not raise for anything a policy can write: that is a CRASHED verdict.

    Called in a process that may be killed in the middle of it (shaping/verification); keeps nothing between calls.
    """

    decides_correctness: bool

    def score(self, request: RewardRequest) -> RewardResult: ...


class BatchReward(Protocol):
    """A reward that waits for others rather than computes: asked for a whole group at once, in the shaping process.

    Keeps its own deadline, since nobody kills it.
    """

    decides_correctness: bool

    def score_batch(self, requests: Sequence[RewardRequest]) -> Sequence[RewardResult]:
        """One result for each request, in order."""
        ...


def reward_request(rollout: Rollout, prompt: Prompt, *, max_response_tokens: int = 0) -> RewardRequest:
    """What rewards may know of a rollout."""
    return RewardRequest(
        prompt_id=prompt.prompt_id,
        messages=prompt.messages,
        reference_answer=prompt.reference_answer,
        response_text=rollout.response_text,
        num_tokens=rollout.num_tokens,
        stop_reason=rollout.stop_reason,
        max_response_tokens=max_response_tokens,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVerdict:
    """A response whose verdict is known: a reward's module may list some with `known_verdicts(config)`.

    They are judged before the first step, so that a verifier that answers nonsense ends a run at its start.
    """

    response_text: str
    reference_answer: str
    status: VerdictStatus
