"""Laws of the expressions, as Prometheus itself evaluates them: promtool, over series that stand below.

A step takes 10 minutes, the window of a rate is 1 minute, a scrape 15 seconds. Values are chosen so that quotients are
powers of 2, which come out exact whatever a rate extrapolates.
"""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from dashboards import promql
from dashboards.build import dashboards
from dashboards.reading import annotations, targets

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: install Debian's package prometheus"
)

RUN = 'job="lessrl", instance="a", run_id="one"'
OTHER_RUN = 'job="lessrl", instance="a", run_id="two"'
# 41 scrapes of 15 s are the first 10 minutes: the steps are reported at 10:15 and 20:15.
STEPS = {
    f"less_step_seconds_count{{{RUN}}}": "0x40 1x39 2x40",
    f"less_step_seconds_sum{{{RUN}}}": "0x40 512x39 1024x40",
}
JUST_AFTER, BETWEEN = "20m30s", "18m"


@dataclass(frozen=True)
class Case:
    """What an expression is at a time.

    Args:
        found: value by labels; empty where it has no point.
    """

    expression: str
    at: str
    found: Mapping[str, float] = field(default_factory=dict)


def filled(expression: str) -> str:
    for name, value in (("$__rate_interval", "1m"), ("$job", ".+"), ("$run_id", ".+"), ("$ray_job", ".+")):
        expression = expression.replace(name, value)
    return expression


def promtool(folder: Path, series: Mapping[str, str], *cases: Case) -> subprocess.CompletedProcess[str]:
    tests = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": filled(case.expression),
                "eval_time": case.at,
                "exp_samples": [{"labels": f"{{{labels}}}", "value": value} for labels, value in case.found.items()],
            }
            for case in cases
        ],
    }
    path = folder / "expressions.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": [tests]}))
    return subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)


def holds(folder: Path, series: Mapping[str, str], *cases: Case) -> None:
    done = promtool(folder, series, *cases)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tool_sees_a_wrong_value(tmp_path: Path) -> None:
    assert promtool(tmp_path, STEPS, Case(promql.rate(promql.STEPS), JUST_AFTER, {'run_id="one"': 7})).returncode != 0


def test_what_steps_feed_is_exact_however_long_a_step_is(tmp_path: Path) -> None:
    series = STEPS | {f"less_learner_tokens_total{{{RUN}}}": "0x40 2048x39 4096x40"}
    holds(
        tmp_path,
        series,
        Case(promql.per_step("less_learner_tokens_total"), JUST_AFTER, {'run_id="one"': 2048}),
        Case(promql.per_step_second("less_learner_tokens_total"), JUST_AFTER, {'run_id="one"': 4}),
        Case(promql.mean("less_step_seconds"), JUST_AFTER, {'run_id="one"': 512}),
    )


def test_there_is_no_point_between_two_steps(tmp_path: Path) -> None:
    series = STEPS | {
        f"less_learner_tokens_total{{{RUN}}}": "0x40 2048x39 4096x40",
        f'less_step_seconds_bucket{{{RUN}, le="1"}}': "0x120",
        f'less_step_seconds_bucket{{{RUN}, le="+Inf"}}': "0x40 1x39 2x40",
    }
    expressions = (
        promql.per_step("less_learner_tokens_total"),
        promql.mean("less_step_seconds"),
        promql.quantile(0.95, "less_step_seconds"),
        promql.spread("less_step_seconds"),
    )
    holds(tmp_path, series, *(Case(expression, BETWEEN) for expression in expressions))


def test_shares_of_a_label_add_up_to_one_in_each_run(tmp_path: Path) -> None:
    series = {
        f'less_groups_total{{{RUN}, outcome="mixed"}}': "0x40 8x60",
        f'less_groups_total{{{RUN}, outcome="all_correct"}}': "0x40 4x60",
        f'less_groups_total{{{RUN}, outcome="all_incorrect"}}': "0x40 4x60",
        f'less_groups_total{{{OTHER_RUN}, outcome="mixed"}}': "0x40 2x60",
        f'less_groups_total{{{OTHER_RUN}, outcome="all_correct"}}': "0x40 0x60",
        f'less_groups_total{{{OTHER_RUN}, outcome="all_incorrect"}}': "0x40 2x60",
    }
    shares = {
        'run_id="one", outcome="mixed"': 0.5,
        'run_id="one", outcome="all_correct"': 0.25,
        'run_id="one", outcome="all_incorrect"': 0.25,
        'run_id="two", outcome="mixed"': 0.5,
        'run_id="two", outcome="all_correct"': 0.0,
        'run_id="two", outcome="all_incorrect"': 0.5,
    }
    holds(
        tmp_path,
        series,
        Case(promql.share("less_groups_total", "outcome"), "10m30s", shares),
        Case(promql.part("less_groups_total", outcome="mixed"), "10m30s", {'run_id="one"': 0.5, 'run_id="two"': 0.5}),
    )


def test_a_mix_is_of_the_chosen_runs_together(tmp_path: Path) -> None:
    # 8 + 4 of the one, and 0 + 4 of the other: 8 of 16 each.
    series = {
        f'less_groups_total{{{RUN}, outcome="mixed"}}': "0x40 8x60",
        f'less_groups_total{{{RUN}, outcome="all_correct"}}': "0x40 4x60",
        f'less_groups_total{{{OTHER_RUN}, outcome="mixed"}}': "0x40 0x60",
        f'less_groups_total{{{OTHER_RUN}, outcome="all_correct"}}': "0x40 4x60",
    }
    halves = {'outcome="mixed"': 0.5, 'outcome="all_correct"': 0.5}
    holds(tmp_path, series, Case(promql.mix("less_groups_total", "outcome"), "10m30s", halves))


def test_a_spread_is_the_part_up_to_each_bound(tmp_path: Path) -> None:
    series = {
        f'less_reward_value_bucket{{{RUN}, le="-1.0"}}': "0x40 2x60",
        f'less_reward_value_bucket{{{RUN}, le="1.0"}}': "0x40 8x60",
        f'less_reward_value_bucket{{{RUN}, le="+Inf"}}': "0x40 8x60",
    }
    parts = {'le="-1.0"': 0.25, 'le="1.0"': 1.0, 'le="+Inf"': 1.0}
    holds(tmp_path, series, Case(promql.spread("less_reward_value"), "10m30s", parts))


def test_a_control_plane_that_began_anew_is_one_line_with_its_former_self(tmp_path: Path) -> None:
    series = {
        f"less_run_step{{{RUN}}}": "3x100",
        'less_run_step{job="lessrl", instance="b", run_id="one"}': "_x20 4x80",
        f"less_run_target_steps{{{RUN}}}": "8x100",
        'less_run_target_steps{job="lessrl", instance="b", run_id="one"}': "_x20 8x80",
    }
    step, target = promql.level("less_run_step"), promql.level("less_run_target_steps")
    holds(
        tmp_path,
        series,
        Case(step, "6m", {'run_id="one"': 4}),
        Case(promql.quotient(step, target), "6m", {'run_id="one"': 0.5}),
    )


def annotation(name: str) -> str:
    return next(each.expression for each in annotations(dashboards()["lessrl-overview"]) if each.name == name)


def test_a_pause_is_marked_as_long_as_it_lasts(tmp_path: Path) -> None:
    series = {
        f'less_run_state{{{RUN}, state="paused"}}': "0x3 1x3 0x10",
        f'less_run_state{{{RUN}, state="running"}}': "1x3 0x3 1x10",
    }
    pause = annotation("Pause")
    while_paused = [Case(pause, at, {'run_id="one"': 1}) for at in ("1m", "1m15s", "1m45s")]
    holds(tmp_path, series, Case(pause, "45s"), *while_paused, Case(pause, "2m"))


def test_a_checkpoint_is_marked_at_the_time_when_it_was_written(tmp_path: Path) -> None:
    series = {f"less_checkpoint_last_success_timestamp_seconds{{{RUN}}}": "_x10 160x20"}
    checkpoint = annotation("Checkpoint")
    holds(tmp_path, series, Case(checkpoint, "1m"), Case(checkpoint, "4m", {'run_id="one"': 160000}))


def test_restarts_and_evaluations_are_marked_for_one_window(tmp_path: Path) -> None:
    # An increase of 1 over a window of 1 minute with samples over 45 s: 1 x 60/45.
    series = {
        f'less_worker_restarts_total{{{RUN}, role="rollout"}}': "0x20 1x40",
        f"less_evaluation_seconds_count{{{RUN}}}": "0x20 1x40",
    }
    for name, labels in (("Worker restart", 'run_id="one", role="rollout"'), ("Evaluation", 'run_id="one"')):
        marked = annotation(name)
        once = Case(f"{marked} > bool 0", "5m30s", {labels: 1})
        holds(tmp_path, series, Case(marked, "5m"), once, Case(marked, "6m30s"))


def test_a_run_is_one_row_while_it_is_upgraded(tmp_path: Path) -> None:
    info = f'less_run_info{{{RUN}, model="m", algorithm="grpo", shaping="less", recipe_hash="h"}}'
    series = {
        info: "1x40",
        f'less_build_info{{{RUN}, version="1"}}': "1x40",
        'less_build_info{job="lessrl", instance="b", run_id="one", version="1"}': "1x40",
    }
    (about,) = (
        target.expression for panel, target in targets(dashboards()["lessrl-overview"]) if panel.title == "About"
    )
    row = 'run_id="one", model="m", algorithm="grpo", shaping="less", recipe_hash="h", version="1"'
    holds(tmp_path, series, Case(about, "5m", {row: 1}))
    upgraded = series | {'less_build_info{job="lessrl", instance="b", run_id="one", version="2"}': "1x40"}
    holds(tmp_path, upgraded, Case(f"count({about})", "5m", {"": 1}))


def test_the_number_of_alerts_is_of_the_chosen_runs_and_of_what_they_stand_on(tmp_path: Path) -> None:
    """Prometheus may hold alerts of others: on the runs, on their control plane and on a GPU there are four."""
    (expression,) = [
        each.expression for panel, each in targets(dashboards()["lessrl-overview"]) if panel.title == "Alerts"
    ]
    firing = 'alertstate="firing"'
    series = {
        f'ALERTS{{alertname="RunFailed", job="lessrl", run_id="one", {firing}}}': "1x100",
        f'ALERTS{{alertname="QueueFull", job="lessrl", run_id="two", {firing}}}': "1x100",
        f'ALERTS{{alertname="ControlPlaneDown", job="lessrl", instance="a", {firing}}}': "1x100",
        f'ALERTS{{alertname="GPUMemoryHigh", job="ray", instance="b", {firing}}}': "1x100",
        'ALERTS{alertname="KLHigh", job="lessrl", run_id="one", alertstate="pending"}': "1x100",
        f'ALERTS{{alertname="KubePodCrashLooping", job="kube-state-metrics", {firing}}}': "1x100",
    }
    holds(tmp_path, series, Case(expression, JUST_AFTER, {"": 4}))
    one = expression.replace("$run_id", "one")
    holds(tmp_path, series, Case(one, JUST_AFTER, {"": 3}))
    holds(tmp_path, {}, Case(expression, JUST_AFTER, {"": 0}))
