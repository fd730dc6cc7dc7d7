"""The exposition text says what the reports said, and nothing else."""

import math
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from report_builders import make_description, make_evaluation, make_event, make_step, make_worker

from services.metrics.catalogue import FamilyKind, MetricKind
from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES, QUEUES
from services.metrics.run_metrics import RunMetrics
from services.reports import BufferReport, PauseMode, RunState, WorkerStatus
from shaping.histograms import Histogram


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
    assert found["less_policy_version", (("component", "learner"),)] == 2
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
    assert found["less_step_seconds_bucket", (("le", "+Inf"),)] == 2
    phases = {labels[0][1]: value for (name, labels), value in found.items() if name == "less_step_phase_seconds_total"}
    assert phases["other"] == pytest.approx(0.1)
    assert sum(phases.values()) == pytest.approx(3.6)


def test_every_closed_counter_is_zero_before_the_first_event() -> None:
    found = samples(make_metrics())
    closed = [metric for metric in catalogue().metrics if metric.kind == MetricKind.SUM]
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
    assert found["less_reward_part_value", (("reward", "math_answer"),)] == 0.5
    assert found["less_reward_part_value", (("reward", "format_2"),)] == 0.25


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


def test_every_family_of_the_catalogue_can_be_shown_and_nothing_else_is() -> None:
    metrics = make_metrics()
    for metric in catalogue().metrics:
        for name in metric.names if metric.is_closed else (metric.name.replace(f"{{{metric.label}}}", "x"),):
            metrics.observe(make_step(1, {name: 1.0}))
    expected = {metric.family for metric in catalogue().metrics}
    expected |= {
        family.name
        for family in FAMILIES
        if family.of_run and family.kind in (FamilyKind.COUNTER, FamilyKind.HISTOGRAM)
    }
    shown = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name, _ in samples(metrics)}
    known = {metric.family for metric in catalogue().metrics} | {family.name for family in FAMILIES}
    assert expected <= shown
    assert shown <= known


def test_a_distribution_of_a_step_keeps_its_exact_sum_over_steps() -> None:
    metrics = make_metrics()
    bounds = next(each.bounds for each in catalogue().metrics if each.name == "shaping_token_entropy_nats")
    for values in ([0.005, 0.15, 7.0], [0.15]):
        report = make_step(1)
        report.histograms["shaping_token_entropy_nats"] = Histogram.of(values, bounds)
        metrics.observe(report)
    found = samples(metrics)
    assert found["less_shaping_token_entropy_nats_count", ()] == 4
    assert found["less_shaping_token_entropy_nats_sum", ()] == pytest.approx(7.305)
    assert found["less_shaping_token_entropy_nats_bucket", (("le", "0.1"),)] == 1
    assert found["less_shaping_token_entropy_nats_bucket", (("le", "0.2"),)] == 3
    assert found["less_shaping_token_entropy_nats_bucket", (("le", "6.0"),)] == 3


def test_a_distribution_by_other_bounds_is_left_out_and_counted() -> None:
    metrics = make_metrics()
    report = make_step(1)
    report.histograms["shaping_token_entropy_nats"] = Histogram.of([1.0], (0.5, 2.0))
    metrics.observe(report)
    found = samples(metrics)
    assert found["less_shaping_token_entropy_nats_count", ()] == 0
    assert found["less_metrics_unusable_total", ()] == 1


def test_a_number_of_a_step_with_bounds_is_one_observation_of_a_histogram() -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1, {"weight_sync_transfer_s": 3.0}))
    metrics.observe(make_step(2, {"weight_sync_transfer_s": 0.2}))
    found = samples(metrics)
    assert found["less_weight_sync_seconds_sum", (("phase", "transfer"),)] == pytest.approx(3.2)
    assert found["less_weight_sync_seconds_bucket", (("le", "0.25"), ("phase", "transfer"))] == 1


def make_status(name: str, standing: str, version: int | None = None, role: str = "rollout") -> WorkerStatus:
    return WorkerStatus(worker_id=name, role=role, standing=standing, inflight=0, restarts=0, policy_version=version)


def test_levels_between_steps_come_from_the_buffer_and_a_lost_worker_serves_no_version() -> None:
    metrics = make_metrics()
    workers = (
        make_status("rollout-0", "serving", 7),
        make_status("rollout-1", "behind", 5),
        make_status("rollout-2", "lost", 2),
        make_status("shaping-0", "serving", role="shaping"),
    )
    metrics.observe(make_event("worker", workers=(make_worker("rollout-0", state="ready"),)))
    metrics.observe(BufferReport(queues={"in_flight": (3, 8), "buffered": (2, 4)}, version=7, workers=workers))
    found = samples(metrics)
    assert found["less_rollout_inflight_groups", ()] == 3
    assert found["less_queue_groups", (("queue", "buffered"),)] == 2
    assert found["less_queue_capacity_groups", (("queue", "buffered"),)] == 4
    assert found["less_policy_version", (("component", "rollout_min"),)] == 5
    assert found["less_policy_version", (("component", "rollout_max"),)] == 7
    workers = {labels: value for (name, labels), value in found.items() if name == "less_workers" and value}
    rollout, shaping = ("role", "rollout"), ("role", "shaping")
    assert workers == {
        (rollout, ("state", "serving")): 1,
        (rollout, ("state", "behind")): 1,
        (rollout, ("state", "lost")): 1,
        (shaping, ("state", "serving")): 1,
    }


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_has_ended_has_no_workers_no_queues_and_no_served_version(state: RunState) -> None:
    metrics = make_metrics()
    metrics.observe(make_step(1))
    workers = (make_status("rollout-0", "serving", 1),)
    metrics.observe(BufferReport(queues={"in_flight": (3, 8)}, version=1, workers=workers))
    levels = {"less_workers", "less_queue_groups", "less_rollout_inflight_groups"}
    assert {name for name, _ in samples(metrics)} >= levels
    metrics.observe_state(state)
    found = samples(metrics)
    assert not {name for name, _ in found} & levels
    assert {labels for name, labels in found if name == "less_policy_version"} == {(("component", "learner"),)}


def test_scores_of_benchmarks_are_told_apart_by_k() -> None:
    metrics = make_metrics()
    scores = {
        "val-core/aime24/acc/mean@32": 0.25,
        "val-aux/aime24/acc/std@32": 0.1,
        "val-aux/aime24/acc/worst@4/mean": 0.05,
        "val-aux/aime24/acc/pass@8": 0.5,
        "val-aux/aime24/acc/best@8/mean": 0.5,
    }
    metrics.observe(replace(make_evaluation(4), metrics=scores))
    found = {name: (labels, value) for (name, labels), value in samples(metrics).items() if "_at_k_" in name}
    assert found == {
        "less_evaluation_mean_at_k_ratio": ((("benchmark", "aime24"), ("k", "32")), 0.25),
        "less_evaluation_std_at_k_ratio": ((("benchmark", "aime24"), ("k", "32")), 0.1),
        "less_evaluation_worst_at_k_ratio": ((("benchmark", "aime24"), ("k", "4")), 0.05),
        "less_evaluation_pass_at_k_ratio": ((("benchmark", "aime24"), ("k", "8")), 0.5),
    }


def test_checkpoints_and_restarts_are_counted_from_their_events() -> None:
    metrics = make_metrics()
    details = {"checkpoint": "step-000010", "bytes": 2048, "seconds": 1.5}
    metrics.observe(replace(make_event("checkpoint_saved"), details=details))
    metrics.observe(make_event("checkpoint_failed"))
    metrics.observe(make_event("checkpoint_loaded", details={"checkpoint": "step-000010", "seconds": 0.5}))
    metrics.observe(make_event("worker_left_out", workers=(make_worker("shaping-0", role="shaping", state="failed"),)))
    metrics.observe(make_event("worker_restarted", workers=(make_worker("shaping-0", role="shaping", state="ready"),)))
    found = samples(metrics)
    assert found["less_checkpoint_bytes", ()] == 2048
    assert found["less_checkpoint_seconds_sum", (("operation", "save"),)] == 1.5
    assert found["less_checkpoint_seconds_sum", (("operation", "load"),)] == 0.5
    assert found["less_checkpoint_last_success_timestamp_seconds", ()] == 1234.5
    assert found["less_checkpoint_failures_total", ()] == 1
    assert found["less_worker_restarts_total", (("role", "shaping"),)] == 1
    assert found["less_worker_losses_total", (("role", "shaping"),)] == 1


def test_the_series_of_a_run_stay_below_the_budget() -> None:
    metrics = make_metrics()
    names = [name for metric in catalogue().metrics if metric.is_closed for name in metric.names]
    metrics.observe(make_step(1, dict.fromkeys(names, 1.0)))
    metrics.observe(
        BufferReport(queues=dict.fromkeys(QUEUES, (1, 2)), version=1, workers=(make_status("rollout-0", "serving", 1),))
    )
    scores = {f"val-core/set{index}/acc/mean@32": 0.5 for index in range(7)}
    metrics.observe(replace(make_evaluation(4), metrics=scores))
    assert len(FAMILIES) < len(samples(metrics)) < 2000


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_own_linter_finds_no_fault() -> None:
    metrics = make_metrics()
    names = [name for metric in catalogue().metrics if metric.is_closed for name in metric.names]
    metrics.observe(make_step(1, dict.fromkeys(names, 1.0)))
    text = generate_latest(metrics.registry)
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
    faulty = b"# HELP less_balls balls\n# TYPE less_balls counter\nless_balls 1\n"
    assert subprocess.run(["promtool", "check", "metrics"], input=faulty, capture_output=True, check=False).returncode
