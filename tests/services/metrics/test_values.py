"""A family shows what it was told: exact sums, closed labels from the start, nothing that nobody measured."""

import math

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.metrics.catalogue import Family, FamilyKind
from services.metrics.values import FamilyValues
from shaping.histograms import Histogram

COLOURS = {"colour": ("red", "blue")}
UNUSABLE = Family("less_unusable_total", FamilyKind.COUNTER, "left out")


def values(*families: Family) -> FamilyValues:
    return FamilyValues([*families, UNUSABLE], {"run_id": "r"}, unusable="less_unusable_total")


def samples(shown: FamilyValues) -> dict[tuple[str, tuple[str, ...]], float]:
    """{(name, label values but run_id): value}."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(shown).decode()):  # type: ignore[arg-type]
        for sample in family.samples:
            assert sample.labels.pop("run_id") == "r"
            found[sample.name, tuple(sample.labels.values())] = sample.value
    return found


def test_closed_labels_of_counters_and_histograms_are_there_from_the_start_and_gauges_are_not() -> None:
    shown = values(
        Family("less_balls_total", FamilyKind.COUNTER, "balls", "balls", COLOURS),
        Family("less_size_tokens", FamilyKind.HISTOGRAM, "size", "tokens", COLOURS, (1.0,)),
        Family("less_weight", FamilyKind.GAUGE, "weight", "1", COLOURS),
        Family("less_named_total", FamilyKind.COUNTER, "open", "1", {"name": ()}),
    )
    found = samples(shown)
    assert {labels for name, labels in found if name == "less_balls_total"} == {("red",), ("blue",)}
    assert found["less_size_tokens_bucket", ("red", "+Inf")] == 0
    assert {name for name, _ in found}.isdisjoint({"less_weight", "less_named_total"})


def test_a_histogram_counts_a_value_at_its_bound_and_merges_what_was_binned_elsewhere() -> None:
    shown = values(Family("less_size", FamilyKind.HISTOGRAM, "size", "1", {}, (1.0, 2.5)))
    shown.observe("less_size", 1.0)
    shown.merge("less_size", Histogram((1.0, 2.5), (2, 0, 3), 40.5))
    found = samples(shown)
    assert found["less_size_bucket", ("1.0",)] == 3
    assert found["less_size_bucket", ("2.5",)] == 3
    assert found["less_size_bucket", ("+Inf",)] == 6
    assert found["less_size_count", ()] == 6
    assert found["less_size_sum", ()] == 41.5


def test_numbers_that_cannot_be_used_are_counted_and_change_nothing() -> None:
    shown = values(
        Family("less_balls_total", FamilyKind.COUNTER, "balls"),
        Family("less_weight", FamilyKind.GAUGE, "weight"),
        Family("less_size", FamilyKind.HISTOGRAM, "size", "1", {}, (1.0,)),
    )
    shown.set("less_weight", 2.0)
    for unusable in (math.nan, math.inf, -1.0):
        shown.add("less_balls_total", unusable)
    shown.set("less_weight", math.nan)
    shown.observe("less_size", math.nan)
    shown.merge("less_size", Histogram((2.0,), (1, 0), 1.0))
    found = samples(shown)
    assert found["less_balls_total", ()] == 0
    assert found["less_weight", ()] == 2
    assert found["less_size_count", ()] == 0
    assert found["less_unusable_total", ()] == 6


def test_a_forgotten_gauge_is_gone_and_may_return() -> None:
    shown = values(Family("less_weight", FamilyKind.GAUGE, "weight"))
    shown.set("less_weight", 2.0)
    shown.forget("less_weight")
    assert ("less_weight", ()) not in samples(shown)
    shown.set("less_weight", 3.0)
    assert samples(shown)["less_weight", ()] == 3


def test_a_family_is_fed_as_what_it_is_and_with_its_own_labels() -> None:
    shown = values(Family("less_balls_total", FamilyKind.COUNTER, "balls", "balls", COLOURS))
    with pytest.raises(ValueError, match="is a counter with labels"):
        shown.set("less_balls_total", 1.0, colour="red")
    with pytest.raises(ValueError, match="is a counter with labels"):
        shown.add("less_balls_total", 1.0)
