"""Responses that end early: a group whose rollouts are cut to fewer tokens (transforms answer `Cut`).

Every per-token array is cut with the tokens and stays as it was measured; the text is decoded anew. Knows no rewards:
what a cut response is worth is judged afterwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from shaping.checks import IntArray, require
from shaping.records import Rollout, RolloutGroup, StopReason

Decode = Callable[[IntArray], str]
"""[T] token ids to their text, as the rollout engine decodes a response."""


def cut_rollout(rollout: Rollout, num_tokens: int, decode: Decode) -> Rollout:
    """The first `num_tokens` tokens of a rollout that has more, as one that met the length limit there."""
    spans = (
        replace(span, stop=min(span.stop, num_tokens)) for span in rollout.version_spans if span.start < num_tokens
    )
    response_ids = rollout.response_ids[:num_tokens].copy()
    return replace(
        rollout,
        response_ids=response_ids,
        response_text=decode(response_ids),
        behavior_logprobs=rollout.behavior_logprobs[:num_tokens].copy(),
        entropies=rollout.entropies[:num_tokens].copy(),
        stop_reason=StopReason.LENGTH,
        version_spans=tuple(spans),
    )


def cut_group(group: RolloutGroup, lengths: Sequence[int], decode: Decode) -> tuple[RolloutGroup, list[int]]:
    """A group with responses of at most these lengths, and the indices of those that were longer.

    Args:
        lengths: [G] tokens to keep, each >= 0.
    Raises:
        RecordError: another number of lengths, or a negative one.
    """
    where = f"RolloutGroup {group.group_id}"
    require(
        len(lengths) == group.group_size, f"lengths must have {group.group_size} entries, got {len(lengths)}", where
    )
    require(min(lengths) >= 0, f"lengths must be >= 0, got {min(lengths)}", where)
    changed = [index for index, rollout in enumerate(group.rollouts) if lengths[index] < rollout.num_tokens]
    if not changed:
        return group, []
    rollouts = list(group.rollouts)
    for index in changed:
        rollouts[index] = cut_rollout(rollouts[index], lengths[index], decode)
    return replace(group, rollouts=tuple(rollouts)), changed
