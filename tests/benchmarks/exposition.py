"""What metrics cost: python -m tests.benchmarks.exposition [--json] [--step-seconds 1.1]

A run with every series that it may have. `scrape_ms`: /metrics as text. `step_ms`: a step with every number and
distribution, into metrics.jsonl's line, over the wire and into the registry. `bins_ms`: entropies, multipliers and
advantages of a group of 8 x 3072 tokens into their ranges. `exporter_over_step`: step_ms, one group's bins for each of
16 groups and a scrape every 5 seconds, over a step of so many seconds, which is the quickstart's. CPU seconds.
"""

from functools import partial

import numpy as np
from prometheus_client import generate_latest

from services.hosting.wire import dump_reports, load_reports
from services.metrics.catalogue import MetricKind
from services.metrics.entries import catalogue
from services.metrics.families import QUEUES
from services.metrics.run_metrics import RunMetrics
from services.report_lines import report_line
from services.reports import BufferReport, EvaluationReport, RunDescription, StepReport, WorkerStatus
from shaping.histograms import ADVANTAGES, ENTROPY_NATS, MULTIPLIERS, Histogram
from tests.benchmarks.report import Report, make_parser, write_report
from tests.benchmarks.timing import time_in_turn, use_one_core

NUM_GROUPS = 16
GROUP_SHAPE = (8, 3072)
SCRAPE_EVERY_SECONDS = 5.0
STEP_SECONDS = 1.1
ROUNDS = 21
BENCHMARKS = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench", "gsm8k")


def make_step() -> StepReport:
    """A step with every closed number, and every distribution with something in it."""
    known = [metric for metric in catalogue().metrics if metric.is_closed]
    is_distribution = [metric.kind is MetricKind.HISTOGRAM for metric in known]
    numbers = [metric for metric, skip in zip(known, is_distribution, strict=True) if not skip]
    distributions = [metric for metric, take in zip(known, is_distribution, strict=True) if take]
    return StepReport(
        step=1,
        total_steps=10,
        policy_version=1,
        metrics={name: 0.5 for metric in numbers for name in metric.names},
        phase_seconds={"wait_batch": 0.5, "train": 0.6},
        step_seconds=1.1,
        groups={"trained": NUM_GROUPS},
        num_response_tokens=1000,
        elapsed_seconds=1.1,
        histograms={name: Histogram.of([0.5, 1.5], each.bounds) for each in distributions for name in each.names},
    )


def full_run() -> RunMetrics:
    """A run that has every series."""
    description = RunDescription(
        run_id="run-1",
        name="run",
        model="model",
        algorithm="grpo",
        shaping="less",
        seed=0,
        total_steps=10,
        recipe_hash="sha256:00",
        run_dir="runs/run",
    )
    metrics = RunMetrics(description, catalogue=catalogue(), version="0.1.0", clock=lambda: 0.0)
    metrics.observe(make_step())
    worker = WorkerStatus(
        worker_id="rollout-0", role="rollout", standing="serving", inflight=0, restarts=0, policy_version=1
    )
    metrics.observe(BufferReport(queues=dict.fromkeys(QUEUES, (1, 2)), version=1, workers=(worker,)))
    scores = {
        f"val-core/{benchmark}/acc/{score}": 0.5
        for benchmark in BENCHMARKS
        for score in ("mean@32", "std@32", "worst@32/mean", "pass@32")
    }
    metrics.observe(
        EvaluationReport(
            step=1,
            policy_version=1,
            accuracy=0.5,
            num_problems=1,
            num_answers=1,
            num_decided=1,
            mean_response_tokens=1.0,
            seconds=1.0,
            metrics=scores,
        )
    )
    return metrics


def measure(step_seconds: float, *, core: int | None, num_rounds: int = ROUNDS) -> Report:
    metrics, step = full_run(), make_step()
    random = np.random.default_rng(0)
    tokens = [random.exponential(0.4, GROUP_SHAPE).astype(np.float32) for _ in range(3)]
    bounds = (ENTROPY_NATS, MULTIPLIERS, ADVANTAGES)

    def take_step() -> None:
        report_line(step, at=0.0)
        for each in load_reports(dump_reports([step])):
            assert isinstance(each, StepReport)
            metrics.observe(each)

    def bin_group() -> None:
        for values, ranges in zip(tokens, bounds, strict=True):
            Histogram.of(values, ranges)

    calls = {"scrape": partial(generate_latest, metrics.registry), "step": take_step, "bins": bin_group}
    timings = time_in_turn(calls, num_rounds=num_rounds)
    text = generate_latest(metrics.registry).decode()
    spent = timings["step"].seconds + NUM_GROUPS * timings["bins"].seconds
    spent += timings["scrape"].seconds * step_seconds / SCRAPE_EVERY_SECONDS
    figures = {
        "num_series": sum(not line.startswith("#") for line in text.splitlines()),
        "scrape_bytes": len(text),
        **{f"{name}_ms": 1000 * timing.seconds for name, timing in timings.items()},
        "exporter_over_step": spent / step_seconds,
    }
    return Report(benchmark="exposition", core=core, figures=figures)


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--step-seconds", type=float, default=STEP_SECONDS)
    options = parser.parse_args()
    write_report(measure(options.step_seconds, core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
