"""LESS is exact: golden groups and thousands of hard random groups, both modes, both backends, bit for bit.

The golden groups come from the authors' code; the oracles are literal readings of less.md (`tests/support`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adversarial_groups import AdversarialGroup, draw_groups, draw_options
from compat_oracle import compat_advantages, compat_oracle
from containment_oracle import OracleGroup, oracle_group

from shaping.less import Group, LessAnalysis, LessOptions, Mode, analyze, batch_analyze, batch_multipliers, multipliers
from shaping.less import shape_advantages as shape
from shaping.segment_counts import Overlap, SegmentCounts
from shaping.support import SegmentClass

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "less_golden.npz"
BACKENDS = ("numba", "numpy")
SEEDS, GROUPS_PER_SEED = range(100), 52
RULES = [
    {"membership": membership, "scope": scope, "match": match}
    for membership, scope, match in product(("lt", "le"), ("response", "group"), ("segment", "kgram"))
]
COMPAT_RULES = [
    {"membership": membership, "scope": scope, "outside": outside}
    for membership, scope, outside in product(("lt", "le"), ("response", "group"), ("share", "keep"))
]
SEGMENT_COLUMNS = ("rows", "starts", "stops", "num_correct", "num_incorrect")
Rows = Sequence[np.ndarray]


def assert_same_bits(found: Rows, wanted: Rows, where: str) -> None:
    """Equal float32 rows, signs of zeros included."""
    assert [len(row) for row in found] == [len(row) for row in wanted], where
    assert {row.dtype for row in (*found, *wanted)} == {np.dtype(np.float32)}, where
    if np.concatenate(found).tobytes() != np.concatenate(wanted).tobytes():
        pairs = zip(found, wanted, strict=True)
        bad = next(i for i, (row, other) in enumerate(pairs) if row.tobytes() != other.tobytes())
        np.testing.assert_array_equal(found[bad], wanted[bad], err_msg=f"{where}, response {bad}")
        raise AssertionError(f"{where}, response {bad}: zeros of unlike sign")


@cache
def golden() -> list[dict[str, Any]]:
    """Golden groups: per token rows under the names of the file, `correct`, `mu` and `strict`."""
    if not GOLDEN.exists():
        pytest.skip(f"the golden groups lie beside the project and are absent: {GOLDEN.name}")
    with np.load(GOLDEN) as file:
        arrays = dict(file)
    offsets = np.concatenate([[0], np.cumsum(arrays["response_lengths"])]).tolist()
    names = ("tokens", "entropies", "advantages", "compat_multiplier", "compat_advantages", "containment_multiplier")
    groups = []
    for index, (start, stop) in enumerate(pairwise([0, *np.cumsum(arrays["group_sizes"]).tolist()])):
        slices = [slice(offsets[i], offsets[i + 1]) for i in range(start, stop)]
        rows = {name: [arrays[name][each] for each in slices] for name in names}
        facts = {name: arrays[name][index].item() for name in ("mu", "strict")}
        groups.append({**rows, **facts, "correct": arrays["correct"][start:stop].astype(bool)})
    return groups


def golden_rows(mode: str, backend: str, orders: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Multipliers of every golden group with its responses in the given order; one batch per minimum length."""
    found: dict[int, list[np.ndarray]] = {}
    for mu in sorted({group["mu"] for group in golden()}):
        members = [index for index, group in enumerate(golden()) if group["mu"] == mu]
        batch = [
            (
                *([golden()[g][name][i] for i in orders[g]] for name in ("tokens", "entropies")),
                golden()[g]["correct"][orders[g]],
            )
            for g in members
        ]
        options = LessOptions(min_length=mu, mode=mode, backend=backend)
        found |= dict(zip(members, batch_multipliers(batch, options), strict=True))
    return [found[index] for index in range(len(golden()))]


def stored_orders() -> list[np.ndarray]:
    return [np.arange(len(group["correct"])) for group in golden()]


def test_the_oracles_agree_with_the_golden_groups() -> None:
    for index, group in enumerate(golden()):
        arguments = (group["tokens"], group["entropies"], group["correct"])
        compat = compat_oracle(*arguments, min_length=group["mu"])
        assert_same_bits(compat, group["compat_multiplier"], f"group {index}")
        assert_same_bits(compat_advantages(compat, group["advantages"]), group["compat_advantages"], f"group {index}")
        containment = oracle_group(*arguments, min_length=group["mu"]).multipliers()
        assert_same_bits(containment, group["containment_multiplier"], f"group {index}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_compat_is_the_authors_code_on_every_golden_group(backend: str) -> None:
    for index, (group, rows) in enumerate(zip(golden(), golden_rows("compat", backend, stored_orders()), strict=True)):
        assert_same_bits(rows, group["compat_multiplier"], f"group {index}")
        shaped = shape(rows, group["advantages"], mode="compat")
        assert_same_bits(shaped, group["compat_advantages"], f"group {index}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shuffles", [0, 1, 2])
def test_containment_is_exact_on_every_golden_group_in_any_order(backend: str, shuffles: int) -> None:
    rng = np.random.default_rng(shuffles)
    orders = [rng.permutation(order) if shuffles else order for order in stored_orders()]
    for index, (group, order, rows) in enumerate(
        zip(golden(), orders, golden_rows("containment", backend, orders), strict=True)
    ):
        assert_same_bits(rows, [group["containment_multiplier"][i] for i in order], f"group {index}")
        if group["strict"]:
            assert_same_bits(rows, [group["compat_multiplier"][i] for i in order], f"group {index}, strict")


def draw(seed: int) -> tuple[list[AdversarialGroup], LessOptions]:
    rng = np.random.default_rng(seed)
    min_length, quantile = draw_options(rng)
    return draw_groups(rng, GROUPS_PER_SEED, min_length), LessOptions(min_length=min_length, quantile=quantile)


def rules_of(rules: list[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """The default rule and three of the seven others, each as often over the seeds."""
    return [rules[0], *(rules[1 + (3 * seed + step) % 7] for step in range(3))]


@pytest.mark.parametrize("seed", SEEDS)
def test_containment_equals_comparing_everything_with_everything(seed: int) -> None:
    groups, defaults = draw(seed)
    batch = [group.arguments() for group in groups]
    for rule in rules_of(RULES, seed):
        options = replace(defaults, **rule)
        compiled, vectorised = (batch_analyze(batch, replace(options, backend=backend)) for backend in BACKENDS)
        kept = [batch_multipliers(batch, replace(options, backend=backend, outside="keep")) for backend in BACKENDS]
        for index, group in enumerate(groups):
            where = f"seed {seed}, {options}, group {index} ({group.kind})"
            oracle = oracle_group(*batch[index], min_length=options.min_length, quantile=options.quantile, **rule)
            assert_same_bits(compiled[index].multipliers, oracle.multipliers("share"), where)
            check_support(compiled[index], oracle, where)
            check_counts(compiled[index].counts, oracle, rule["match"], where)
            check_same(vectorised[index], compiled[index], where)
            for backend, rows in zip(BACKENDS, kept, strict=True):
                assert_same_bits(rows[index], oracle.multipliers("keep"), f"{where}, keep, {backend}")


def check_same(found: LessAnalysis, wanted: LessAnalysis, where: str) -> None:
    """What both backends say of one group."""
    assert_same_bits(found.multipliers, wanted.multipliers, f"{where}, numpy against numba")
    assert found.counts == wanted.counts, where
    for name in ("thresholds", "token_support"):
        np.testing.assert_array_equal(getattr(found.support, name), getattr(wanted.support, name), err_msg=where)
    for name in SEGMENT_COLUMNS:
        columns = [getattr(each.support.segments, name) for each in (found, wanted)]
        assert columns[0].dtype == columns[1].dtype, where
        np.testing.assert_array_equal(*columns, err_msg=where)


def check_support(found: LessAnalysis, oracle: OracleGroup, where: str) -> None:
    """Thresholds, token support and every segment with its counts, class and multiplier."""
    support, segments = found.support, found.support.segments
    # By value: zeros of either sign are the same threshold.
    np.testing.assert_array_equal(support.thresholds, np.array(oracle.thresholds, np.float32), err_msg=where)
    assert support.token_support.tolist() == [count for row in oracle.token_support for count in row], where
    columns = [getattr(segments, name) for name in SEGMENT_COLUMNS]
    assert {column.dtype for column in (*columns, support.token_support)} == {np.dtype(np.int32)}, where
    wanted = [(s.row, s.start, s.stop, s.num_correct, s.num_wrong) for s in oracle.segments]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == wanted, where
    listed = [
        (row, each.start, each.stop, str(each.segment_class), each.multiplier)
        for row, members in enumerate(segments.by_rollout(found.correct))
        for each in members
    ]
    assert listed == [(s.row, s.start, s.stop, s.kind, oracle.segment_multiplier(s)) for s in oracle.segments], where


def check_counts(found: SegmentCounts, oracle: OracleGroup, match: str, where: str) -> None:
    """Totals; overlaps against all pairs of rollouts, of whole segments (less.md defines no other)."""
    stray = sum(count == -2 for row in oracle.token_support for count in row)
    totals = (found.num_tokens, found.num_low, found.num_ties, found.num_stray)
    assert totals == (sum(map(len, oracle.token_support)), oracle.num_low, oracle.num_ties, stray), where
    for kind in SegmentClass:
        lengths = [s.stop - s.start for s in oracle.segments if s.kind == kind]
        assert (found.num_segments[kind], found.num_segment_tokens[kind]) == (len(lengths), sum(lengths)), where
    for name, own, other in (("cc", True, True), ("cw", True, False), ("wc", False, True), ("ww", False, False)):
        overlap: Overlap = getattr(found, f"overlap_{name}")
        total, num_pairs = oracle.overlap(own, other)
        assert overlap.num_pairs == num_pairs, where
        assert match == "kgram" or overlap.total == pytest.approx(total, rel=1e-12, abs=1e-12), where


@pytest.mark.parametrize("seed", SEEDS)
def test_compat_equals_the_written_algorithm(seed: int) -> None:
    groups, defaults = draw(seed)
    batch = [group.arguments() for group in groups]
    for rule in rules_of(COMPAT_RULES, seed):
        options = replace(defaults, mode="compat", **rule)
        found = {backend: batch_multipliers(batch, replace(options, backend=backend)) for backend in BACKENDS}
        for index, (group, each) in enumerate(zip(groups, batch, strict=True)):
            wanted = compat_oracle(*each, min_length=options.min_length, quantile=options.quantile, **rule)
            for backend in BACKENDS:
                where = f"seed {seed}, {backend}, {options}, group {index} ({group.kind})"
                assert_same_bits(found[backend][index], wanted, where)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["containment", "compat"])
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_batch_is_its_groups_one_at_a_time(seed: int, mode: str, backend: str) -> None:
    groups, defaults = draw(seed)
    batch = [group.arguments() for group in groups]
    options = replace(defaults, mode=mode, backend=backend)
    rows, analyses = batch_multipliers(batch, options), batch_analyze(batch, options)
    for index, arguments in enumerate(batch):
        alone = multipliers(
            *arguments, min_length=options.min_length, quantile=options.quantile, mode=mode, backend=backend
        )
        where = f"seed {seed}, group {index} ({groups[index].kind})"
        for other in (rows[index], analyses[index].multipliers, analyze(*arguments, options).multipliers):
            assert_same_bits(alone, other, where)
        assert analyze(*arguments, options).counts == analyses[index].counts, where


def giant_runs() -> list[list[np.ndarray]]:
    """Eight equal runs, equal tokens at unlike lengths, a loop against its own parts."""
    loop = np.tile(np.arange(7, dtype=np.int32), 60)
    return [
        [np.full(300, 5, np.int32)] * 8,
        [np.full(length, 5, np.int32) for length in range(60, 260, 25)],
        [loop, loop[3:90], loop[1:], loop[:-5], np.arange(300, dtype=np.int32), loop[7:14]],
    ]


@pytest.mark.parametrize("tokens", giant_runs())
@pytest.mark.parametrize("backend", BACKENDS)
def test_giant_runs_are_exact_too(tokens: list[np.ndarray], backend: str) -> None:
    # The last token alone is at the threshold: all tokens before it are one run.
    entropies = [np.where(np.arange(len(row)) == len(row) - 1, 1.0, 0.0) for row in tokens]
    correct = [index % 3 != 1 for index in range(len(tokens))]
    arguments = (tokens, entropies, correct)
    options = LessOptions(quantile=0.999, backend=backend)
    for found, wanted in (
        (
            multipliers(*arguments, quantile=0.999, backend=backend),
            oracle_group(*arguments, quantile=0.999).multipliers(),
        ),
        (batch_multipliers([arguments], replace(options, mode="compat"))[0], compat_oracle(*arguments, quantile=0.999)),
    ):
        assert_same_bits(found, wanted, backend)


@pytest.mark.parametrize("min_length", [5, 2048])
@pytest.mark.parametrize("backend", BACKENDS)
def test_strings_whose_hashes_collide_are_not_taken_for_equal(min_length: int, backend: str) -> None:
    # Thue-Morse words and their complements have equal polynomial hashes modulo 2**64 for every odd base, from 2**11
    # tokens on. In one class they would count each other, over both classes erase each other. With 2048 tokens as the
    # shortest segment, and as the gram, heads and grams collide too.
    word = np.array([index.bit_count() % 2 for index in range(2100)])
    texts = [word[:2048], 1 - word[:2048], word, 1 - word]
    rows = [np.append(text, 9) for text in texts]
    entropies = [(row == 9).astype(np.float64) for row in rows]
    rule = {"min_length": min_length, "quantile": 0.9999}
    for correct in ([True, True, True, True], [True, False, True, False]):
        arguments = (rows, entropies, correct)
        for match in ("segment", "kgram"):
            wanted = oracle_group(*arguments, **rule, match=match).multipliers()
            found = multipliers(*arguments, **rule, match=match, backend=backend)
            assert_same_bits(found, wanted, f"{correct}, {match}")
        found = multipliers(*arguments, **rule, mode="compat", backend=backend)
        assert_same_bits(found, compat_oracle(*arguments, **rule), f"{correct}, compat")


@pytest.mark.parametrize("seed", range(4))
def test_backends_agree_on_long_loops(seed: int) -> None:
    # Strings of more than 64 tokens that overlap themselves: loops of few periods, with a token changed here and there.
    rng = np.random.default_rng(seed)
    groups: list[Group] = []
    for _ in range(40):
        loops = [rng.integers(0, 3, rng.integers(1, 12)) for _ in range(2)]
        rows, nats = [], []
        for _ in range(int(rng.integers(2, 6))):
            row = np.concatenate([np.resize(loops[rng.integers(2)], rng.integers(60, 220)) for _ in range(3)])
            changed = rng.random(len(row)) < 0.004
            rows.append(np.where(changed, 7, row))
            nats.append((rng.random(len(row)) < rng.choice([0.005, 0.02])) + 0.01 * rng.random(len(row)))
        groups.append((rows, nats, rng.random(len(rows)) < 0.5))
    modes: tuple[Mode, ...] = ("containment", "compat")
    for mode in modes:
        compiled, vectorised = (
            batch_multipliers(groups, LessOptions(mode=mode, quantile=0.98, backend=backend)) for backend in BACKENDS
        )
        for one, other in zip(chain(*compiled), chain(*vectorised), strict=True):
            np.testing.assert_array_equal(one, other)
