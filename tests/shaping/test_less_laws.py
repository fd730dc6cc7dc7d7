"""Laws of the LESS front door that hold for every group: order, neighbours, token names, bounds, what is refused."""

import random
from typing import Any

import numpy as np
import pytest
from group_builders import make_group, make_rollout
from hypothesis import given, settings
from hypothesis import strategies as st

from shaping.components import ComponentSpec
from shaping.config import ShapingConfig
from shaping.groups import DropReason
from shaping.kernels.base import SegmentRule
from shaping.less import LessOptions, analyze, batch_multipliers, multipliers, shape_advantages
from shaping.pipeline import DroppedGroup, ShapingPipeline, TrainableGroup
from shaping.support import SHARED

PER_ROW = ("responses", "entropies", "correct")
Group = dict[str, Any]
seeded = st.randoms(use_true_random=False)


@st.composite
def groups(draw: st.DrawFn, *, max_length: int = 24) -> Group:
    """Few letters and few entropy values, so that containment, ties and nesting are common."""
    letters, size = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    lengths = [draw(st.integers(0, max_length)) for _ in range(size)]
    nats = st.sampled_from([0.0, 0.0, 0.1, 0.3, 1.0])
    return {
        "responses": [np.array(draw(st.lists(st.integers(0, letters), min_size=n, max_size=n)), int) for n in lengths],
        "entropies": [np.array(draw(st.lists(nats, min_size=n, max_size=n)), float) for n in lengths],
        "correct": draw(st.lists(st.booleans(), min_size=size, max_size=size)),
    }


@st.composite
def rules(draw: st.DrawFn, *, mode: str | None = None, match: str | None = None) -> dict[str, Any]:
    """Options of the rule; each mode and match where none is asked for."""
    chosen = mode or draw(st.sampled_from(["containment", "compat"]))
    grams = "segment" if chosen == "compat" else draw(st.sampled_from(["segment", "kgram"]))
    return {
        "mode": chosen,
        "match": match or grams,
        "min_length": draw(st.integers(1, 4)),
        "quantile": draw(st.sampled_from([0.5, 0.8, 0.9])),
        "membership": draw(st.sampled_from(["lt", "le"])),
        "outside": draw(st.sampled_from(["share", "keep"])),
        "scope": draw(st.sampled_from(["response", "group"])),
        "backend": draw(st.sampled_from(["numba", "numpy"])),
    }


def assert_equal_rows(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert [row.tolist() for row in found] == [row.tolist() for row in wanted]


@settings(max_examples=150, deadline=None)
@given(groups(), rules(mode="containment"), seeded)
def test_permuting_responses_permutes_rows(group: Group, rule: dict[str, Any], rng: random.Random) -> None:
    order = list(range(len(group["correct"])))
    rng.shuffle(order)
    rows = multipliers(**group, **rule)
    shuffled = multipliers(**{name: [group[name][i] for i in order] for name in PER_ROW}, **rule)
    assert_equal_rows(shuffled, [rows[i] for i in order])


@settings(max_examples=100, deadline=None)
@given(st.lists(groups(max_length=12), min_size=1, max_size=6), rules())
def test_other_groups_of_the_batch_change_nothing(members: list[Group], rule: dict[str, Any]) -> None:
    batch = [tuple(group[name] for name in PER_ROW) for group in members]
    for group, rows in zip(members, batch_multipliers(batch, LessOptions(**rule)), strict=True):
        assert_equal_rows(rows, multipliers(**group, **rule))


@settings(max_examples=100, deadline=None)
@given(groups(), rules(), st.integers(0, 4))
def test_what_lies_behind_a_response_in_a_padded_array_changes_nothing(
    group: Group, rule: dict[str, Any], extra: int
) -> None:
    lengths = [len(row) for row in group["responses"]]
    width = max(lengths) + extra
    # The padding continues each response as if it were one more low-entropy phrase.
    ids = np.ones((len(lengths), width), np.int32)
    nats = np.zeros((len(lengths), width), np.float32)
    for index, length in enumerate(lengths):
        ids[index, :length], nats[index, :length] = group["responses"][index], group["entropies"][index]
    views = {
        "responses": [row[:length] for row, length in zip(ids, lengths, strict=True)],
        "entropies": [row[:length] for row, length in zip(nats, lengths, strict=True)],
        "correct": group["correct"],
    }
    assert_equal_rows(multipliers(**views, **rule), multipliers(**group, **rule))


@settings(max_examples=100, deadline=None)
@given(groups(), rules(), st.permutations([0, 1, 7, 2**31 - 2, 2**31 - 1]))
def test_renaming_token_ids_changes_nothing(group: Group, rule: dict[str, Any], names: list[int]) -> None:
    renamed = {**group, "responses": [np.array(names)[row] for row in group["responses"]]}
    assert_equal_rows(multipliers(**renamed, **rule), multipliers(**group, **rule))


@settings(max_examples=150, deadline=None)
@given(groups(), rules())
def test_multipliers_are_zero_to_one_and_one_above_the_threshold(group: Group, rule: dict[str, Any]) -> None:
    found = analyze(*(group[name] for name in PER_ROW), LessOptions(**rule))
    for row, nats, limit in zip(found.multipliers, group["entropies"], found.support.thresholds, strict=True):
        assert row.dtype == np.float32
        assert ((row >= 0) & (row <= 1)).all()
        assert (row[nats.astype(np.float32) > limit] == 1).all()


@settings(max_examples=100, deadline=None)
@given(groups(), rules(mode="containment"))
def test_shared_tokens_are_zero_and_no_others(group: Group, rule: dict[str, Any]) -> None:
    found = analyze(*(group[name] for name in PER_ROW), LessOptions(**rule))
    np.testing.assert_array_equal(np.concatenate(found.multipliers) == 0, found.support.token_support == SHARED)


@settings(max_examples=100, deadline=None)
@given(groups(), rules(mode="containment", match="segment"))
def test_a_shared_segment_is_zero_and_any_other_gives_its_share_at_least(group: Group, rule: dict[str, Any]) -> None:
    found = analyze(*(group[name] for name in PER_ROW), LessOptions(**rule))
    for row, segments in zip(found.multipliers, found.support.segments.by_rollout(found.correct), strict=True):
        for segment in segments:
            part = row[segment.start : segment.stop]
            if segment.num_correct and segment.num_incorrect:
                assert not part.any()
            else:
                assert (part[part > 0] >= segment.multiplier).all()


@settings(max_examples=150, deadline=None)
@given(groups(), rules(match="segment"))
def test_containment_sees_all_that_compat_sees(group: Group, rule: dict[str, Any]) -> None:
    compat = np.concatenate(multipliers(**group, **{**rule, "mode": "compat"}))
    containment = np.concatenate(multipliers(**group, **{**rule, "mode": "containment"}))
    assert (containment[compat == 0] == 0).all()
    assert (containment >= compat)[containment > 0].all()


@settings(max_examples=30, deadline=None)
@given(
    groups(), st.booleans(), st.sampled_from(["grpo", "dr_grpo", "rloo"]), st.sampled_from(["containment", "compat"])
)
def test_homogeneous_groups_have_no_advantage(group: Group, right: bool, estimator: str, mode: str) -> None:
    text = r"\boxed{5}" if right else r"\boxed{6}"
    rollouts = [
        make_rollout(ids, entropies=nats, text=text)
        for ids, nats in zip(group["responses"], group["entropies"], strict=True)
    ]
    # A group of one has nothing to compare with: GRPO keeps its reward.
    members = make_group([*rollouts, make_rollout(text=text), make_rollout(text=text)])
    parts = {
        "estimator": ComponentSpec(kind=estimator),
        "segments": SegmentRule(min_length=2),
        "shapers": (ComponentSpec(kind="less", options={"mode": mode}),),
    }
    trained = ShapingPipeline(ShapingConfig(**parts)).shape((members,))
    assert isinstance(trained, TrainableGroup)
    assert not any(sample.advantages.any() for sample in trained.samples)
    dropped = ShapingPipeline(ShapingConfig(**parts, drop_without_signal=True)).shape((members,))
    assert isinstance(dropped, DroppedGroup)
    assert dropped.drop.reason is DropReason.NO_SIGNAL


IDS, NATS = [[1, 2, 3, 9, 1, 2], [1, 2, 3, 9], []], [[0.0, 0.0, 0.0, 1.0, 0.0, 0.5], [0.25, 0.0, 0.0, 1.0], []]
FLAGS = [True, False, True]


@pytest.mark.parametrize("mode", ["containment", "compat"])
@pytest.mark.parametrize("ids_type", [np.int64, np.int32, np.uint32, np.uint8, list])
@pytest.mark.parametrize("nats_type", [np.float16, np.float32, np.float64, list])
def test_any_integers_and_floats_are_taken(mode: str, ids_type: Any, nats_type: Any) -> None:
    ids = [row if ids_type is list else np.array(row, ids_type) for row in IDS]
    nats = [row if nats_type is list else np.array(row, nats_type) for row in NATS]
    # Both thresholds are the maximum, 1.0: the phrase 1 2 3 is in both classes; the rest is 1/2 and 1/1 in no segment.
    found = multipliers(ids, nats, np.array(FLAGS), min_length=3, mode=mode)
    assert_equal_rows(found, [np.array([0, 0, 0, 0.5, 0.5, 0.5]), np.array([0, 0, 0, 1]), np.zeros(0)])


@pytest.mark.parametrize("mode", ["containment", "compat"])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_views_are_read_and_neither_changed_nor_returned(mode: str, backend: str) -> None:
    table = np.array([[1, 2, 3, 9], [1, 2, 3, 9]], np.int32).repeat(2, axis=1)
    nats = np.array([[0.0, 0.0, 0.0, 1.0]] * 2, np.float32).repeat(2, axis=1)
    for array in (table, nats):
        array.flags.writeable = False
    before = (table.copy(), nats.copy())
    rows = multipliers(table[:, ::2], nats[:, ::2], [True, False], min_length=3, mode=mode, backend=backend)
    # One phrase in both classes, one response each: 0 on the phrase, 1/1 on the fork.
    assert_equal_rows(rows, [np.array([0, 0, 0, 1])] * 2)
    backwards = multipliers(table[:, ::-2], nats[:, ::-2], [True, True], min_length=3, mode=mode, backend=backend)
    assert_equal_rows(backwards, [np.array([0.5, 1, 1, 1])] * 2)
    for row in rows:
        assert row.flags.writeable
        assert not np.shares_memory(row, nats)
        row[:] = 5.0
    np.testing.assert_array_equal(table, before[0])
    np.testing.assert_array_equal(nats, before[1])


def refuse(pattern: str, /, **changes: Any) -> None:
    """One line that says what must hold, and where it does not."""
    group: Group = {
        "responses": [np.arange(4), np.arange(4)],
        "entropies": [np.zeros(4), np.zeros(4)],
        "correct": [True, False],
    }
    with pytest.raises(ValueError, match=pattern) as caught:
        multipliers(**(group | changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", [np.float16, np.float32, np.float64])
def test_entropies_that_are_no_numbers_are_refused_by_response_and_token(bad: float, number: Any) -> None:
    row = np.array([0, 0, bad, 0], number)
    refuse(rf"entropies must be finite, got {bad} at token 2 \(.*response 1\)", entropies=[np.zeros(4), row])
    refuse(r"entropies must be finite.*response 0\)", entropies=[row, row])


def test_what_is_no_group_is_refused() -> None:
    refuse("a group must hold at least one response, got none", responses=[], entropies=[], correct=[])
    refuse("one entry per rollout, got 2, 2 and shape", correct=[True])
    refuse("one entry per rollout, got 2, 1 and shape", entropies=[np.zeros(4)])
    refuse(r"one entry per token, got shape \(3,\) for 4 tokens \(.*response 1\)", entropies=[np.zeros(4), np.zeros(3)])
    refuse(r"one entry per token, got shape \(4, 1\)", entropies=[np.zeros(4), np.zeros((4, 1))])
    refuse(r"one entry per token.*response 0\)", entropies=[[], np.zeros(4)])
    refuse(r"entropies must be numbers.*response 1\)", entropies=[np.zeros(4), ["a", "b", "c", "d"]])


def test_what_are_no_token_ids_are_refused() -> None:
    refuse(r"one-dimensional integer array, got float64.*response 0\)", responses=[np.arange(4.0), np.arange(4)])
    refuse(r"one-dimensional integer array.*response 1\)", responses=[np.arange(4), np.arange(4).reshape(2, 2)])
    refuse(r"one-dimensional integer array, got bool.*response 1\)", responses=[np.arange(4), np.ones(4, bool)])
    refuse(r"token ids must fit 32 bits.*response 1\)", responses=[np.arange(4), np.arange(4) + 2**31 - 3])
    refuse(r"token ids must fit 32 bits.*response 0\)", responses=[np.arange(4, dtype=np.uint64) + 2**63, np.arange(4)])


def test_correctness_is_a_truth_value() -> None:
    refuse("correct must be boolean, got float64", correct=[1.0, 0.0])
    refuse("correct must be boolean, got int64", correct=[2, 0])
    refuse("correct must be boolean", correct=["yes", "no"])
    refuse("correct must be boolean", correct=[None, True])


def test_a_batch_names_the_group_that_is_refused() -> None:
    good = ([[1, 2]], [[0.0, 1.0]], [True])
    with pytest.raises(ValueError, match=r"group 2, response 0"):
        batch_multipliers([good, good, ([[1, 2]], [[0.0, np.nan]], [True])])
    with pytest.raises(ValueError, match=r"at least one response.*group 1"):
        batch_multipliers([good, ([], [], [])])
    assert batch_multipliers([]) == []


def test_options_that_do_not_exist_are_refused_by_name() -> None:
    refuse("mode must be one of containment, compat, got 'exact'", mode="exact")
    refuse("outside must be one of share, keep, got 'drop'", outside="drop")
    refuse("membership must be one of lt, le, got '<'", membership="<")
    refuse("scope must be one of response, group, got 'batch'", scope="batch")
    refuse("match must be one of segment, kgram, got 'gram'", match="gram")
    refuse("backend must be one of auto, numba, numpy, got 'cuda'", backend="cuda")
    refuse("min_length must be >= 1, got 0", min_length=0)
    refuse("min_length must be a whole number, got 3.0", min_length=3.0)
    refuse("min_length must be <= 2147483647, got 2147483648", min_length=2**31)
    for quantile in (0.0, 1.0, -0.5, float("nan"), "0.8"):
        refuse("quantile must be in", quantile=quantile)


def test_compat_has_no_kgrams() -> None:
    refuse('match must be "segment" in mode "compat"', mode="compat", match="kgram")


def test_entropies_that_float32_cannot_hold_are_refused() -> None:
    refuse(
        r"entropies must be finite, got inf at token 1 \(group 0, response 1\)", entropies=[[0] * 4, [0, 1e300, 0, 0]]
    )


def test_a_ragged_row_is_refused_with_its_place() -> None:
    refuse(r"several lengths \(group 0, response 0\)", responses=[[1, [2]], np.arange(4)])


def test_advantages_must_have_the_shape_of_their_multipliers() -> None:
    with pytest.raises(ValueError, match=r"one entry per multiplier, got rows of \[\(1,\)\] for \[\(3,\)\]"):
        shape_advantages([np.ones(3, np.float32)], [np.ones(1)])


def test_a_response_without_a_length_is_refused_with_its_place() -> None:
    refuse(
        r"one-dimensional integer array, got int64\[\] \(group 0, response 1\)", responses=[np.arange(4), np.array(5)]
    )


def test_numbers_of_numpy_are_numbers() -> None:
    options = LessOptions(min_length=np.int64(5), quantile=np.float64(0.8))  # type: ignore[arg-type]
    assert options.rule == LessOptions().rule
