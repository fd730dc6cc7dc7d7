"""What is particular to one transform; the laws that all share are in tests/contracts."""

import pytest
from group_builders import make_rollout, make_scored

from shaping.groups import Drop, DropReason
from shaping.records import StopReason
from shaping.transforms import drop_truncated, drop_uniform


def test_a_group_of_equal_rewards_has_no_signal() -> None:
    transform = drop_uniform.build(drop_uniform.Config())
    drop = transform.transform(make_scored([True, True]))
    assert drop == Drop(reason=DropReason.NO_SIGNAL, detail="all 2 rewards are 1")


def test_a_group_of_different_rewards_is_kept_as_it_is() -> None:
    scored = make_scored([True, True], rewards=[1.0, 1.1])
    assert drop_uniform.build(drop_uniform.Config()).transform(scored) is scored
    assert isinstance(drop_uniform.build(drop_uniform.Config(tolerance=0.2)).transform(scored), Drop)


def test_a_group_of_one_is_not_uniform() -> None:
    scored = make_scored([True])
    assert drop_uniform.build(drop_uniform.Config()).transform(scored) is scored


def test_a_group_of_one_outcome_is_dropped_whatever_its_rewards_are() -> None:
    # DAPO: three correct responses, one of them punished for its length
    transform = drop_uniform.build(drop_uniform.Config(of="verdicts"))
    drop = transform.transform(make_scored([True] * 3, rewards=[1.0, 1.0, 0.25]))
    assert drop == Drop(reason=DropReason.NO_SIGNAL, detail="all 3 rollouts are correct")
    drop = transform.transform(make_scored([False] * 2, rewards=[0.0, -1.0]))
    assert drop == Drop(reason=DropReason.NO_SIGNAL, detail="all 2 rollouts are wrong")
    # one of either outcome with one and the same reward
    for kept in (make_scored([True, False], rewards=[0.0, 0.0]), make_scored([True])):
        assert transform.transform(kept) is kept


@pytest.mark.parametrize(
    ("max_share", "num_truncated", "is_dropped"), [(0.5, 2, False), (0.5, 3, True), (0.0, 1, True), (1.0, 4, False)]
)
def test_more_than_the_share_of_truncated_responses_drops_a_group(
    max_share: float, num_truncated: int, is_dropped: bool
) -> None:
    stops = [StopReason.LENGTH] * num_truncated + [StopReason.EOS] * (4 - num_truncated)
    scored = make_scored([True] * 4, rollouts=[make_rollout(stop_reason=stop) for stop in stops])
    result = drop_truncated.build(drop_truncated.Config(max_share=max_share)).transform(scored)
    if not is_dropped:
        assert result is scored
        return
    assert isinstance(result, Drop)
    assert result.reason is DropReason.FILTERED
    assert result.detail.startswith(f"drop_truncated: {num_truncated} of 4 responses")


def test_shares_and_tolerances_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="max_share must be in"):
        drop_truncated.Config(max_share=1.5)
    with pytest.raises(ValueError, match="tolerance must be >= 0"):
        drop_uniform.Config(tolerance=-1.0)
