"""Responses that end early: what is cut, what stays as it was."""

import numpy as np
import pytest
from group_builders import make_group, make_rollout

from shaping.checks import IntArray
from shaping.cutting import cut_group, cut_rollout
from shaping.errors import RecordError
from shaping.records import Rollout, StopReason, VersionSpan


def spelled(token_ids: IntArray) -> str:
    return " ".join(map(str, token_ids.tolist()))


def never(token_ids: IntArray) -> str:
    raise AssertionError(f"nothing is to be decoded, asked for {token_ids}")


def make_long() -> Rollout:
    """Six tokens, sampled by versions 3 (two tokens), 4 (three) and 6 (one)."""
    spans = [(0, 2, 3), (2, 5, 4), (5, 6, 6)]
    return Rollout(
        hint_ids=np.array([9], np.int32),
        response_ids=np.array([11, 12, 13, 14, 15, 16], np.int32),
        response_text="whole",
        behavior_logprobs=np.array([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6], np.float32),
        entropies=np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32),
        entropy_source=make_rollout().entropy_source,
        stop_reason=StopReason.EOS,
        version_spans=tuple(VersionSpan(start=a, stop=b, policy_version=c) for a, b, c in spans),
    )


def test_every_array_is_cut_with_the_tokens_and_the_text_is_decoded_anew() -> None:
    cut = cut_rollout(make_long(), 3, spelled)
    assert cut.response_ids.tolist() == [11, 12, 13]
    assert cut.response_text == "11 12 13"
    assert cut.behavior_logprobs.tolist() == np.array([-0.1, -0.2, -0.3], np.float32).tolist()
    assert cut.entropies.tolist() == np.array([0.1, 0.2, 0.3], np.float32).tolist()
    assert cut.stop_reason is StopReason.LENGTH
    assert cut.hint_ids.tolist() == [9]
    assert [(span.start, span.stop, span.policy_version) for span in cut.version_spans] == [(0, 2, 3), (2, 3, 4)]
    assert (cut.min_policy_version, cut.max_policy_version) == (3, 4)


@pytest.mark.parametrize(("num_tokens", "spans"), [(2, [(0, 2)]), (5, [(0, 2), (2, 5)]), (0, [])])
def test_a_cut_at_the_border_of_a_version_leaves_whole_spans(num_tokens: int, spans: list[tuple[int, int]]) -> None:
    cut = cut_rollout(make_long(), num_tokens, spelled)
    assert [(span.start, span.stop) for span in cut.version_spans] == spans


def test_what_is_cut_off_is_freed() -> None:
    # A view of the arrays would keep all of a long response in memory, and take it along to the next process.
    cut = cut_rollout(make_long(), 3, spelled)
    assert cut.response_ids.base is None and cut.entropies.base is None and cut.behavior_logprobs.base is None


def test_only_responses_that_are_longer_are_cut() -> None:
    group = make_group([make_long(), make_rollout([1, 2, 3]), make_long()])
    cut, changed = cut_group(group, [4, 3, 6], spelled)
    assert changed == [0]
    assert [rollout.num_tokens for rollout in cut.rollouts] == [4, 3, 6]
    assert cut.rollouts[1] is group.rollouts[1] and cut.rollouts[2] is group.rollouts[2]


def test_a_group_without_a_longer_response_is_the_same_object() -> None:
    group = make_group([make_long(), make_rollout([1, 2, 3])])
    assert cut_group(group, [6, 99], never) == (group, [])
    assert cut_group(group, [6, 99], never)[0] is group


@pytest.mark.parametrize(
    ("lengths", "message"),
    [([1], r"lengths must have 2 entries, got 1 \(RolloutGroup g\)"), ([3, -1], "lengths must be >= 0, got -1")],
)
def test_lengths_that_fit_no_group_are_refused(lengths: list[int], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        cut_group(make_group(), lengths, never)
