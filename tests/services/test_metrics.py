"""The exposition text says what the reports said, and nothing else."""

import math

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from report_builders import make_description, make_evaluation, make_event, make_step, make_worker

from services.catalogue_entries import FAMILIES, catalogue
from services.metrics import RunMetrics
from services.reports import PauseMode


def make_metrics() -> RunMetrics:
    return RunMetrics(make_description(), catalogue=catalogue(), version="0.1.0", clock=lambda: 1234.5)


def samples(metrics: RunMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """{(name, labels but run_id): value} of the exposition text, which must parse."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            assert sample.labels["run_id"] == "run-1", sample
            labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "run_id"))
            found[sample.name, labels] = sample.value
    return found


def test_counters_add_up_over_steps_and_gauges_hold_the_last() -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1, {"groups_mixed_count": 3.0, "reward_total_value": 0.25}))
    metrics.observe(make_step(2, {"groups_mixed_count": 4.0, "reward_total_value": 0.5}))
    found = samples(metrics)
    assert found["less_groups_total", (("outcome", "mixed"),)] == 7
    assert found["less_reward_total_value", ()] == 0.5
    assert found["less_run_step", ()] == 2
    assert found["less_policy_version", ()] == 2
    assert found["less_rollout_generated_tokens_total", ()] == 200
    assert found["less_run_last_step_timestamp_seconds", ()] == 1234.5


def test_step_time_is_a_histogram_with_an_exact_sum_and_phases_add_up_to_it() -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1, step_seconds=3.0, phase_seconds={"wait_batch": 1.0, "train": 2.0}))
    metrics.observe(make_step(2, step_seconds=0.6, phase_seconds={"train": 0.5, "coffee": 0.1}))
    found = samples(metrics)
    assert found["less_step_seconds_count", ()] == 2
    assert found["less_step_seconds_sum", ()] == pytest.approx(3.6)
    assert found["less_step_seconds_bucket", (("le", "1.0"),)] == 1
    phases = {labels[0][1]: value for (name, labels), value in found.items() if name == "less_step_phase_seconds_total"}
    assert phases["other"] == pytest.approx(0.1)
    assert sum(phases.values()) == pytest.approx(3.6)


def test_every_closed_counter_is_zero_before_the_first_event() -> None:
    found = samples(make_metrics())
    closed = [metric for metric in catalogue().metrics if metric.kind == "sum"]
    assert closed
    for metric in closed:
        for value in metric.values or (None,):
            labels = ((metric.label, value),) if metric.label else ()
            assert found[metric.family, labels] == 0
    assert found["less_run_pauses_total", (("mode", "drain"), ("result", "failed"))] == 0


def test_a_level_that_nobody_measured_is_absent() -> None:
    names = {name for name, _ in samples(make_metrics())}
    assert "less_reward_total_value" not in names
    assert "less_evaluation_accuracy_ratio" not in names
    assert "less_policy_version" not in names


def test_no_counter_carries_its_time_of_birth() -> None:
    metrics = make_metrics()
    metrics.observe(make_step())
    assert not [name for name, _ in samples(metrics) if name.endswith("_created")]


def test_an_unknown_name_is_counted_and_does_not_stop_the_rest() -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1, {"no_such_metric": 1.0, "reward_total_value": 0.5}))
    metrics.observe(make_step(2, {"no_such_metric": 1.0}))
    found = samples(metrics)
    assert found["less_metrics_unknown_total", ()] == 2
    assert found["less_reward_total_value", ()] == 0.5
    assert metrics.unknown_names == {"no_such_metric"}


def test_a_number_that_is_not_finite_is_counted_and_the_last_good_one_stays() -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1, {"learner_grad_norm": 1.5, "groups_mixed_count": 1.0}))
    metrics.observe(make_step(2, {"learner_grad_norm": math.nan, "groups_mixed_count": math.inf}))
    metrics.observe(make_step(3, {"groups_mixed_count": -1.0}))
    found = samples(metrics)
    assert found["less_learner_grad_norm", ()] == 1.5
    assert found["less_groups_total", (("outcome", "mixed"),)] == 1
    assert found["less_metrics_unusable_total", ()] == 3


def test_rewards_of_the_recipe_become_label_values() -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1, {"reward_math_answer_value": 0.5, "reward_format_2_value": 0.25}))
    found = samples(metrics)
    assert found["less_reward_value", (("reward", "math_answer"),)] == 0.5
    assert found["less_reward_value", (("reward", "format_2"),)] == 0.25


def test_evaluations_and_workers_are_shown() -> None:
    metrics = make_metrics()
    metrics.observe(make_evaluation(4, num_decided=6))
    for state in ("starting", "ready", "dancing"):
        metrics.observe(make_event("worker", workers=(make_worker(state=state),)))
    found = samples(metrics)
    assert found["less_evaluation_accuracy_ratio", ()] == 0.5
    assert found["less_evaluation_step", ()] == 4
    shown = {labels: value for (name, labels), value in found.items() if name == "less_workers" and value}
    assert shown == {(("role", "rollout"), ("state", "other")): 1}


def test_retried_groups_are_counted() -> None:
    metrics = make_metrics()
    metrics.observe(make_event("group_retried"))
    assert samples(metrics)["less_rollout_group_retries_total", ()] == 1


def test_pauses_are_counted_by_their_mode() -> None:
    metrics = make_metrics()
    metrics.count_pause(mode=PauseMode.FREEZE, succeeded=True)
    metrics.add_paused_seconds(2.5, mode=PauseMode.ABORT)
    found = samples(metrics)
    pauses = {labels: value for (name, labels), value in found.items() if name == "less_run_pauses_total"}
    assert len(pauses) == 6
    assert {labels for labels, value in pauses.items() if value} == {(("mode", "freeze"), ("result", "succeeded"))}
    assert found["less_run_paused_seconds_total", (("mode", "abort"),)] == 2.5
    assert found["less_run_paused_seconds_total", (("mode", "drain"),)] == 0


def test_build_and_run_facts_are_info() -> None:
    found = samples(make_metrics())
    assert found["less_build_info", (("version", "0.1.0"),)] == 1
    facts = (("algorithm", "grpo"), ("model", "models/tiny"), ("recipe_hash", "sha256:00"), ("shaping", "less"))
    assert found["less_run_info", facts] == 1


def test_names_and_help_follow_the_rules() -> None:
    text = generate_latest(make_metrics().registry).decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.name.startswith("less_") and family.documentation for family in families)
    assert all(family.name.count("less_") == 1 for family in families)
    counters = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE") and line.endswith("counter")}
    assert counters
    assert all(name.endswith("_total") for name in counters)


def test_the_series_of_a_run_stay_below_the_budget() -> None:
    metrics = make_metrics()
    names = [name for metric in catalogue().metrics if metric.is_closed for name in metric.names]
    metrics.observe(make_step(1, dict.fromkeys(names, 1.0)))
    assert len(samples(metrics)) < 2000
    assert len(FAMILIES) > 0
