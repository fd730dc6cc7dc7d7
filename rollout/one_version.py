"""What becomes of a group whose rounds must all be sampled by one policy version, when a newer one has met it. Pure.

Accuracies of two policies are not points of one curve. So a round of another version than the first is not taken, nor
is one that mixes versions: the group is closed with the rounds before it where they can teach something, and is begun
again otherwise, with the same prompt and seeds. Versions change only with learner steps, and the learner waits for the
oldest group, so a group meets no more of them than may be stale.
Source: SEELE (arXiv:2509.06923) refits within one step, with one policy; the rule for a service is ours.
"""

from collections.abc import Sequence
from enum import StrEnum

from rollout.plans.base import FinishedRound
from rollout.worker import GroupSummary


class NextMove(StrEnum):
    """GO_ON takes the round; CLOSE and BEGIN_AGAIN discard it, and BEGIN_AGAIN those before it too."""

    GO_ON = "go_on"
    CLOSE = "close"
    BEGIN_AGAIN = "begin_again"


def after_round(sampled: Sequence[GroupSummary], finished: Sequence[FinishedRound]) -> NextMove:
    """What follows a round.

    Args:
        sampled: of the group's rounds so far, this one last.
        finished: those before it.
    """
    if len({version for each in sampled for version in _versions(each)}) <= 1:
        return NextMove.GO_ON
    outcomes = {float(reward) for each in finished for reward in each.rewards}
    return NextMove.CLOSE if len(outcomes) > 1 else NextMove.BEGIN_AGAIN


def _versions(summary: GroupSummary) -> set[int]:
    # A response without a token counts as version 0, which says nothing of the others, or of other rounds.
    if not summary.num_response_tokens:
        return set()
    oldest = summary.max_policy_version if 0 in summary.response_lengths else summary.min_policy_version
    return {oldest, summary.max_policy_version}
