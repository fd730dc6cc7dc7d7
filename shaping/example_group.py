"""A small scored group that has a segment under the default numbers: what a pipeline compiles its kernels on."""

import numpy as np

from shaping.groups import ScoredGroup, Verdict, VerdictStatus
from shaping.records import EntropySource, Message, Prompt, Rollout, RolloutGroup, StopReason, VersionSpan

EXAMPLE_TOKENS = 6


def example_group() -> ScoredGroup:
    """A correct and an incorrect rollout; all but the last of their tokens are one segment under the default rule."""
    num_tokens = EXAMPLE_TOKENS
    is_last = np.arange(num_tokens) == num_tokens - 1
    rollout = Rollout(
        hint_ids=np.zeros(0, np.int32),
        response_ids=is_last.astype(np.int32),
        response_text="",
        behavior_logprobs=np.zeros(num_tokens, np.float32),
        entropies=0.5 * is_last.astype(np.float32),
        entropy_source=EntropySource.RAW,
        stop_reason=StopReason.EOS,
        version_spans=(VersionSpan(start=0, stop=num_tokens, policy_version=0),),
    )
    message = Message(role="user", content="example")
    rewards = np.array([1, 0], np.float32)
    return ScoredGroup(
        group=RolloutGroup(
            group_id="example",
            prompt=Prompt(prompt_id="example", messages=(message,), reference_answer="0", position=0),
            prompt_ids=np.zeros(1, np.int32),
            rollouts=(rollout, rollout),
            vocab_size=2,
        ),
        rewards=rewards,
        reward_parts={"example": rewards},
        verdicts=(Verdict(status=VerdictStatus.CORRECT), Verdict(status=VerdictStatus.WRONG)),
    )
