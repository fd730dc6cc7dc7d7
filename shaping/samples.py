"""Training samples out of a shaped group (DESIGN hop 7): prompt, hint and response in one row per rollout."""

from collections import Counter

import numpy as np

from shaping.checks import FloatArray
from shaping.groups import ShapedGroup
from shaping.records import Rollout, TokenSource
from shaping.training import TrainingSample


def to_samples(shaped: ShapedGroup) -> tuple[TrainingSample, ...]:
    """One sample per rollout that has response tokens, in rollout order; `rollout_index` counts the scored rollouts.

    All arrays are [L], L = prompt + hint + response tokens. Only response tokens are in the loss mask; log-probs,
    advantages and entropies are 0 before them.
    """
    group = shaped.segmented.scored.group
    copies = Counter(rollout.hint_ids.tobytes() for rollout in group.rollouts if rollout.num_tokens)
    samples = []
    for index, (rollout, advantages) in enumerate(zip(group.rollouts, shaped.advantages, strict=True)):
        if rollout.num_tokens == 0:
            continue
        num_prompt, num_hint = len(group.prompt_ids), len(rollout.hint_ids)
        sources = np.full(num_prompt + num_hint + rollout.num_tokens, TokenSource.GENERATED, np.uint8)
        sources[:num_prompt] = TokenSource.PROMPT
        sources[num_prompt : num_prompt + num_hint] = TokenSource.HINT
        samples.append(
            TrainingSample(
                group_id=group.group_id,
                rollout_index=index,
                token_ids=np.concatenate([group.prompt_ids, rollout.hint_ids, rollout.response_ids]),
                loss_mask=sources == TokenSource.GENERATED,
                behavior_logprobs=_behind(num_prompt, rollout, rollout.behavior_logprobs),
                advantages=_behind(num_prompt, rollout, advantages),
                entropies=_behind(num_prompt, rollout, rollout.entropies),
                token_sources=sources,
                min_policy_version=rollout.min_policy_version,
                hint_copies=copies[rollout.hint_ids.tobytes()] if num_hint else 1,
            )
        )
    return tuple(samples)


def _behind(num_prompt: int, rollout: Rollout, values: FloatArray) -> FloatArray:
    """[T] values as the end of a row [L] that is 0 before them."""
    return np.concatenate([np.zeros(num_prompt + len(rollout.hint_ids), np.float32), values])
