"""Prometheus metrics of a run, fed from its reports, in a registry of their own, and those of several runs together.

Families come from the catalogue alone. Counters and states exist from the start, so that a rate sees the first event; a
gauge exists once it has a value, since a level that nobody measured is not zero.
"""

import logging
import math
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, disable_created_metrics
from prometheus_client.registry import Collector

from services.catalogue import Catalogue, Entry, Family, FamilyKind, MetricKind, StepMetric
from services.catalogue_entries import FAMILIES, PHASES, ROLES, WORKER_STATES
from services.reports import (
    EvaluationReport,
    PauseMode,
    RunDescription,
    RunEvent,
    RunReport,
    RunState,
    StepReport,
    WorkerReport,
)

OTHER = "other"

logger = logging.getLogger(__name__)


class RunMetrics:
    """What Prometheus scrapes of one run: `registry`. Every sample carries the label run_id.

    Args:
        catalogue: what a step may report; a name outside it is counted and logged once, and left out.
        version: of lessrl.
        clock: seconds since the epoch.
    """

    def __init__(
        self, description: RunDescription, *, catalogue: Catalogue, version: str, clock: Callable[[], float]
    ) -> None:
        # Process-wide in prometheus_client: without it every counter has a second sample with its time of birth.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.unknown_names: set[str] = set()
        self._run_id = description.run_id
        self._catalogue = catalogue
        self._clock = clock
        self._workers: dict[str, WorkerReport] = {}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for family in FAMILIES:
            self._add_family(family)
        for metric in catalogue.metrics:
            self._add_step_metric(metric)
        self._describe(description, version)

    def observe(self, report: RunReport) -> None:
        """Take in a report."""
        if isinstance(report, StepReport):
            self._observe_step(report)
        elif isinstance(report, EvaluationReport):
            self._observe_evaluation(report)
        else:
            self._observe_event(report)

    def observe_state(self, state: RunState) -> None:
        """The run is now in this state."""
        for each in RunState:
            self._set("less_run_state", float(each is state), state=each)

    def count_pause(self, *, mode: PauseMode, succeeded: bool) -> None:
        """A pause that was asked for in this mode ended."""
        self._add("less_run_pauses_total", 1, mode=mode.value, result="succeeded" if succeeded else "failed")

    def add_paused_seconds(self, seconds: float, *, mode: PauseMode) -> None:
        """The run was paused for this long since the last call, by a pause that was asked for in this mode."""
        self._add("less_run_paused_seconds_total", seconds, mode=mode.value)

    def _observe_step(self, report: StepReport) -> None:
        self._set("less_run_step", report.step)
        self._set("less_policy_version", report.policy_version)
        self._set("less_run_last_step_timestamp_seconds", self._clock())
        self._add("less_rollout_generated_tokens_total", report.num_response_tokens)
        self._histograms["less_step_seconds"].labels(self._run_id).observe(report.step_seconds)
        for phase, seconds in report.phase_seconds.items():
            self._add("less_step_phase_seconds_total", seconds, phase=phase if phase in PHASES else OTHER)
        for name, value in report.metrics.items():
            entry = self._catalogue.find(name)
            if entry is None:
                self._refuse(name)
            else:
                self._observe_value(entry, value)

    def _observe_value(self, entry: Entry, value: float) -> None:
        metric = entry.metric
        labels = {metric.label: entry.value} if metric.label and entry.value else {}
        if metric.kind is MetricKind.SUM:
            self._add(metric.family, value, **labels)
        else:
            self._set(metric.family, value, **labels)

    def _refuse(self, name: str) -> None:
        self._add("less_metrics_unknown_total", 1)
        if name not in self.unknown_names:
            self.unknown_names.add(name)
            logger.warning("a metric must be in the catalogue, found %s in a step report; left out", name)

    def _observe_evaluation(self, report: EvaluationReport) -> None:
        self._set("less_evaluation_accuracy_ratio", report.accuracy)
        self._set("less_evaluation_step", report.step)
        self._set("less_evaluation_decided_answers", report.num_decided)
        self._set("less_evaluation_response_tokens", report.mean_response_tokens)
        self._add("less_evaluation_seconds_total", report.seconds)

    def _observe_event(self, event: RunEvent) -> None:
        if event.kind == "group_retried":
            self._add("less_rollout_group_retries_total", 1)
        if not event.workers:
            return
        self._workers.update({worker.worker_id: worker for worker in event.workers})
        tally = Tally((_known(each.role, ROLES), _known(each.state, WORKER_STATES)) for each in self._workers.values())
        for role, state in product(ROLES, WORKER_STATES):
            self._set("less_workers", tally[role, state], role=role, state=state)

    def _set(self, name: str, value: float, **labels: str) -> None:
        if math.isfinite(value):
            self._gauges[name].labels(run_id=self._run_id, **labels).set(value)
        else:
            self._add("less_metrics_unusable_total", 1)

    def _add(self, name: str, amount: float, **labels: str) -> None:
        if math.isfinite(amount) and amount >= 0:
            self._counters[name].labels(run_id=self._run_id, **labels).inc(amount)
        else:
            self._add("less_metrics_unusable_total", 1)

    def _add_family(self, family: Family) -> None:
        names = ("run_id", *family.labels)
        if family.kind is FamilyKind.COUNTER:
            self._counters[family.name] = Counter(family.name, family.help, names, registry=self.registry)
            for labels in _combinations(family.labels):
                self._add(family.name, 0, **labels)
        elif family.kind is FamilyKind.GAUGE:
            self._gauges[family.name] = Gauge(family.name, family.help, names, registry=self.registry)
        elif family.kind is FamilyKind.HISTOGRAM:
            histogram = Histogram(family.name, family.help, names, registry=self.registry, buckets=family.buckets)
            histogram.labels(self._run_id)
            self._histograms[family.name] = histogram

    def _add_step_metric(self, metric: StepMetric) -> None:
        kind = FamilyKind.COUNTER if metric.kind is MetricKind.SUM else FamilyKind.GAUGE
        labels = {metric.label: metric.values} if metric.label else {}
        help_text = (
            f"{metric.help}; {metric.formula}, {'summed over steps' if metric.kind is MetricKind.SUM else 'last step'}"
        )
        self._add_family(Family(metric.family, kind, help_text, labels))

    def _describe(self, description: RunDescription, version: str) -> None:
        infos = {"less_build_info": {"version": version}}
        infos["less_run_info"] = {
            "model": description.model,
            "algorithm": description.algorithm,
            "shaping": description.shaping,
            "recipe_hash": description.recipe_hash,
        }
        helps = {family.name: family.help for family in FAMILIES}
        for name, facts in infos.items():
            info = Info(name.removesuffix("_info"), helps[name], ["run_id"], registry=self.registry)
            info.labels(self._run_id).info(facts)
        self._set("less_run_target_steps", description.total_steps)
        self._set("less_run_step", 0)
        self.observe_state(RunState.PENDING)


class CombinedMetrics(Collector):
    """What Prometheus scrapes of several runs: `registry`. Each family is there once, with the samples of every run.

    Args:
        runs: those to show, asked at each scrape.
    """

    def __init__(self, runs: Callable[[], Iterable[RunMetrics]]) -> None:
        self.registry = CollectorRegistry()
        self._runs = runs
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Families in the order of the first run's."""
        families: dict[str, Metric] = {}
        for run in self._runs():
            for metric in run.registry.collect():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples.extend(metric.samples)
        yield from families.values()


def _known(value: str, known: tuple[str, ...]) -> str:
    return value if value in known else OTHER


def _combinations(labels: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, str]]:
    for values in product(*labels.values()):
        yield dict(zip(labels, values, strict=True))
