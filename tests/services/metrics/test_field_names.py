"""Names of the field: every number of the catalogue has one, and no two have the same."""

import math

import pytest
from report_builders import make_evaluation, make_step

from services.metrics.entries import catalogue
from services.metrics.families import PHASES
from services.metrics.field_names import FIELD_NAMES, FieldNames, of_evaluation, of_phase
from shaping.histograms import Histogram


def every_name() -> list[str]:
    """Of the catalogue; an open label stands for two of its values."""
    names = []
    for metric in catalogue().metrics:
        if metric.is_closed:
            names += metric.names
        else:
            names += [metric.name.replace(f"{{{metric.label}}}", value) for value in ("math_answer", "format")]
    return names


def test_every_number_of_the_catalogue_has_a_name_of_its_own() -> None:
    fields = FieldNames(catalogue())
    report = make_step(1, dict.fromkeys(every_name(), 1.0), phase_seconds=dict.fromkeys(PHASES, 1.0))
    # Beside those: the derived clip fraction, global step, version, elapsed, step time twice, tokens per second.
    assert len(fields.of_step(report)) == len(every_name()) + len(PHASES) + 7
    assert all("/" in fields.of_metric(name) and "{" not in fields.of_metric(name) for name in every_name())


def test_every_row_of_the_table_is_of_a_number_that_is_there() -> None:
    known = {*every_name(), *(metric.name for metric in catalogue().metrics), "learner_policy_loss", "learner_kl_loss"}
    assert set(FIELD_NAMES) <= known


@pytest.mark.parametrize(
    ("ours", "field"),
    [
        ("reward_total_value", "critic/score/mean"),
        ("reward_format_value", "reward/format/mean"),
        ("learner_policy_loss", "actor/pg_loss"),
        ("learner_entropy_bonus_loss", "actor/entropy_bonus_loss"),
        ("learner_backward_s", "timing_s/learner_backward"),
        ("weight_sync_transfer_s", "timing_s/update_weights_transfer"),
        ("groups_mixed_count", "group/mixed_count"),
        ("groups_dropped_no_signal_count", "filter_groups/dropped_no_signal"),
        ("less_zero_tokens_share", "less/zero_tokens_share"),
        ("segments_shared_count", "less/segments/shared_count"),
        ("segments_overlap_correct_correct_share", "less/segments/overlap_correct_correct_share"),
        ("weight_sync_aborts_count", "weight_sync/aborts_count"),
        ("hint_round_2_accuracy", "hint/round_2_accuracy"),
        ("admission_surplus_groups_count", "admission/surplus_groups_count"),
        ("learner_update_entropy_nats", "actor/update_entropy_nats"),
        ("of_a_newer_version", "of/a_newer_version"),
    ],
)
def test_a_number_is_named_by_table_or_by_rule(ours: str, field: str) -> None:
    assert FieldNames(catalogue()).of_metric(ours) == field


def test_a_step_says_where_it_stands_and_where_its_time_went() -> None:
    metrics = {"learner_clip_low_share": 0.01, "learner_clip_high_share": 0.02, "reward_total_value": math.nan}
    report = make_step(3, metrics, phase_seconds={"wait_batch": 0.5, "train": 1.5}, num_response_tokens=400)
    values = FieldNames(catalogue()).of_step(report)
    assert values["training/global_step"] == 3
    assert (values["timing_s/gen"], values["timing_s/update_actor"], values["timing_s/step"]) == (0.5, 1.5, 2.0)
    # 400 tokens in 2 s.
    assert values["perf/response_tokens_per_s"] == 200
    assert values["actor/pg_clipfrac"] == pytest.approx(0.03)
    # What is not a number is not drawn.
    assert "critic/score/mean" not in values and "critic/acc/mean" not in values


def test_an_evaluation_keeps_the_fields_own_names() -> None:
    values = of_evaluation(make_evaluation(4, 0.25))
    assert values["val/step"] == 4 and values["val/accuracy"] == 0.25


def test_phases_keep_their_name_where_the_field_has_none() -> None:
    assert [of_phase(each) for each in ("checkpoint", "other")] == ["timing_s/save_checkpoint", "timing_s/other"]


def test_a_distribution_without_values_is_left_out() -> None:
    full, empty = Histogram((1.0,), (1, 2), 4.0), Histogram((1.0,), (0, 0), 0.0)
    report = make_step(1)
    report.histograms.update(advantage_value=full, reward_value=empty)
    assert FieldNames(catalogue()).of_histograms(report) == {"critic/advantages": full}
