"""What is particular to one shaper; the laws that all share are in tests/contracts."""

import numpy as np
import pytest
from group_builders import make_rollout, make_scored, make_segmented

from shaping.checks import split_rows
from shaping.groups import SegmentedGroup
from shaping.less import LessOptions, batch_multipliers, multipliers
from shaping.metrics import metric_values
from shaping.shapers import less, uniform
from shaping.signals import Signal


def make_mixed() -> SegmentedGroup:
    """Two correct rollouts share 1 2; one of them shares 3 4 with the wrong one; 9 is a fork."""
    ids = [[1, 2, 9, 3, 4, 9], [1, 2, 9, 5, 6, 9], [3, 4, 9, 7, 8, 9]]
    rollouts = [make_rollout(row, entropies=[float(token == 9) for token in row]) for row in ids]
    return make_segmented(make_scored([True, True, False], rollouts=rollouts))


def constant_rows(segmented: SegmentedGroup, values: list[float]) -> tuple[np.ndarray, ...]:
    rollouts = segmented.scored.group.rollouts
    return tuple(np.full(r.num_tokens, v, np.float32) for r, v in zip(rollouts, values, strict=True))


def test_less_equals_the_front_door() -> None:
    segmented = make_mixed()
    result = less.build(less.Config()).multipliers(segmented, constant_rows(segmented, [1, 1, -2]))
    rollouts = segmented.scored.group.rollouts
    wanted = multipliers(
        [r.response_ids for r in rollouts], [r.entropies for r in rollouts], segmented.scored.correct, min_length=2
    )
    for row, each in zip(result.multipliers, wanted, strict=True):
        np.testing.assert_array_equal(row, each)


def test_less_measures_what_it_did() -> None:
    segmented = make_mixed()
    result = less.build(less.Config()).multipliers(segmented, constant_rows(segmented, [1, 1, -2]))
    # Threshold 1.0: forks are low and outside, 1/N. Rows (N = 2, 2, 1):
    #   1 1 .5 0 0 .5 | 1 1 .5 .5 .5 .5 | 0 0 1 1 1 1
    assert [row.tolist() for row in result.multipliers] == [
        [1, 1, 0.5, 0, 0, 0.5],
        [1, 1, 0.5, 0.5, 0.5, 0.5],
        [0, 0, 1, 1, 1, 1],
    ]
    found = metric_values(result.metrics)
    assert found["less_zero_tokens_share"] == pytest.approx(4 / 18)
    assert found["less_single_tokens_share"] == pytest.approx(6 / 18)
    assert found["less_full_tokens_share"] == pytest.approx(8 / 18)
    assert found["less_partial_tokens_share"] == 0.0
    # |A| mass 6 + 6 + 12 = 24; kept 3 + 4 + 8 = 15; signed 3 + 4 - 8 = -1.
    assert found["less_kept_mass_share"] == pytest.approx(15 / 24)
    assert found["less_net_mass_share"] == pytest.approx(-1 / 24)
    assert found["less_kept_mass_correct_share"] == pytest.approx(7 / 12)
    assert found["less_kept_mass_incorrect_share"] == pytest.approx(8 / 12)


def test_less_shows_no_mass_share_where_there_is_no_mass() -> None:
    segmented = make_mixed()
    result = less.build(less.Config()).multipliers(segmented, constant_rows(segmented, [0, 0, 0]))
    assert "less_kept_mass_share" not in metric_values(result.metrics)


def test_less_keeps_tokens_outside_segments_on_request() -> None:
    segmented = make_mixed()
    rows = (
        less.build(less.Config(outside="keep")).multipliers(segmented, constant_rows(segmented, [1, 1, 1])).multipliers
    )
    assert rows[1].tolist() == [1, 1, 1, 0.5, 0.5, 1]


def test_less_needs_raw_entropies_and_verdicts() -> None:
    assert {Signal.RAW_ENTROPIES, Signal.VERDICTS} == less.NEEDS


def test_less_names_the_modes_that_exist() -> None:
    with pytest.raises(ValueError, match="mode must be one of containment, compat, got 'greedy'"):
        less.Config(mode="greedy")


def test_compat_multiplies_as_the_front_door_and_leaves_rows_without_advantage_alone() -> None:
    segmented = make_mixed()
    arrays, options = segmented.arrays, LessOptions(mode="compat", min_length=segmented.rule.min_length)
    ids, nats = (split_rows(flat, arrays.lengths) for flat in (arrays.tokens, arrays.entropies))
    wanted = batch_multipliers([(ids, nats, arrays.correct)], options)[0]
    shaper = less.build(less.Config(mode="compat"))
    rows = shaper.multipliers(segmented, constant_rows(segmented, [1, 1e-9, 1])).multipliers
    assert any((row != 1).any() for row in wanted)
    for index in (0, 2):
        np.testing.assert_array_equal(rows[index], wanted[index])
    assert (rows[1] == 1).all()


def test_uniform_changes_nothing() -> None:
    segmented = make_mixed()
    rows = uniform.build(uniform.Config()).multipliers(segmented, constant_rows(segmented, [1, 1, 1])).multipliers
    assert all((row == 1).all() for row in rows)
