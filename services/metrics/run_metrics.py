"""Prometheus metrics of a run, fed from its reports, and those of several runs together.

Families come from the catalogue alone. What a step says is counted with the step, so that its numbers are those of
metrics.jsonl, exactly, but for steps that were lost and made again: they count again, as a counter never falls. What
moves between steps (groups under way, workers, idle time) comes with the buffer's reports.
"""

import logging
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from services.metrics.catalogue import Catalogue, Entry, FamilyKind
from services.metrics.families import (
    BOUNDED_QUEUES,
    EVALUATION_SCORES,
    FAMILIES,
    IDLE_CAUSES,
    PHASES,
    QUEUES,
    ROLES,
    WORKER_STATES,
)
from services.metrics.values import FamilyValues
from services.reports import (
    BufferReport,
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
FINISHED_GROUPS = "rollout_finished_groups"
IDLE_SECONDS = "rollout_idle_{cause}_s"

_TOTALS = {FINISHED_GROUPS: ("less_rollout_finished_groups_total", dict[str, str]())} | {
    IDLE_SECONDS.format(cause=cause): ("less_rollout_worker_idle_seconds_total", {"cause": cause})
    for cause in IDLE_CAUSES
}
_LIVE_GAUGES = ("less_workers", "less_rollout_inflight_groups", "less_queue_groups", "less_queue_capacity_groups")
_SCORE = re.compile(rf"val-(?:core|aux)/([^/]+)/acc/({'|'.join(EVALUATION_SCORES)})@(\d+)(?:/mean)?")
_WORKER_EVENTS = {
    "worker_left_out": "less_worker_losses_total",
    "worker_lost": "less_worker_losses_total",
    "worker_restarted": "less_worker_restarts_total",
}
_SERVING = frozenset({"serving", "behind", "lent"})

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
        families = [family for family in FAMILIES if family.of_run]
        families += [metric.as_family() for metric in catalogue.metrics]
        labels = {"run_id": description.run_id}
        self.values = FamilyValues(families, labels, unusable="less_metrics_unusable_total")
        self.registry = CollectorRegistry()
        self.registry.register(self.values)
        self.unknown_names: set[str] = set()
        self._catalogue = catalogue
        self._clock = clock
        self._workers: dict[str, WorkerReport] = {}
        self._standings: dict[str, tuple[str, str]] = {}
        self._describe(description, version)

    def observe(self, report: RunReport | BufferReport) -> None:
        """Take in a report."""
        if isinstance(report, StepReport):
            self._observe_step(report)
        elif isinstance(report, EvaluationReport):
            self._observe_evaluation(report)
        elif isinstance(report, BufferReport):
            self._observe_buffer(report)
        else:
            self._observe_event(report)

    def observe_state(self, state: RunState) -> None:
        """The run is now in this state; one that has ended has no workers and no queues."""
        for each in RunState:
            self.values.set("less_run_state", float(each is state), state=each)
        if state.is_terminal:
            self.forget_process()

    def forget_process(self) -> None:
        """The process of the run is gone, and with it the levels that it told."""
        self._workers.clear()
        self._standings.clear()
        self.values.forget(*_LIVE_GAUGES)
        for component in ("rollout_min", "rollout_max"):
            self.values.forget("less_policy_version", component=component)

    def count_pause(self, *, mode: PauseMode, succeeded: bool) -> None:
        """A pause that was asked for in this mode ended."""
        self.values.add("less_run_pauses_total", 1, mode=mode.value, result="succeeded" if succeeded else "failed")

    def add_paused_seconds(self, seconds: float, *, mode: PauseMode) -> None:
        """The run was paused for this long since the last call, by a pause that was asked for in this mode."""
        self.values.add("less_run_paused_seconds_total", seconds, mode=mode.value)

    def add_totals(self, amounts: Mapping[str, float]) -> None:
        """What the totals of a buffer report rose by."""
        for name, amount in amounts.items():
            if name in _TOTALS:
                family, labels = _TOTALS[name]
                self.values.add(family, amount, **labels)
            else:
                self._refuse(name)

    def count_missed(self, reports: int) -> None:
        """So many reports of the run never came."""
        self.values.add("less_metrics_push_dropped_total", reports)

    def set_step_time(self, at: float) -> None:
        """The last step was reported at this time."""
        self.values.set("less_run_last_step_timestamp_seconds", at)

    def set_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """The newest checkpoint, as the run's record has it; nothing where there is none."""
        if "created_at" in checkpoint:
            self.values.set("less_checkpoint_last_success_timestamp_seconds", checkpoint["created_at"])
        if "bytes" in checkpoint:
            self.values.set("less_checkpoint_bytes", checkpoint["bytes"])

    def see_workers(self, workers: Iterable[WorkerReport]) -> None:
        """How these workers started."""
        if found := {worker.worker_id: worker for worker in workers}:
            self._workers.update(found)
            self._count_workers()

    def _observe_step(self, report: StepReport) -> None:
        values = self.values
        values.set("less_run_step", report.step)
        values.set("less_run_target_steps", report.total_steps)
        values.set("less_policy_version", report.policy_version, component="learner")
        self.set_step_time(self._clock())
        values.add("less_rollout_generated_tokens_total", report.num_response_tokens)
        values.observe("less_step_seconds", report.step_seconds)
        for phase, seconds in report.phase_seconds.items():
            values.add("less_step_phase_seconds_total", seconds, phase=phase if phase in PHASES else OTHER)
        for name, value in report.metrics.items():
            if entry := self._entry(name):
                self._observe_value(entry, value)
        for name, histogram in report.histograms.items():
            if entry := self._entry(name):
                values.merge(entry.metric.family, histogram, **_labels(entry))

    def _observe_value(self, entry: Entry, value: float) -> None:
        family, labels = entry.metric.family, _labels(entry)
        if entry.metric.family_kind is FamilyKind.COUNTER:
            self.values.add(family, value, **labels)
        elif entry.metric.family_kind is FamilyKind.HISTOGRAM:
            self.values.observe(family, value, **labels)
        else:
            self.values.set(family, value, **labels)

    def _entry(self, name: str) -> Entry | None:
        entry = self._catalogue.find(name)
        if entry is None:
            self._refuse(name)
        return entry

    def _refuse(self, name: str) -> None:
        self.values.add("less_metrics_unknown_total", 1)
        if name not in self.unknown_names:
            self.unknown_names.add(name)
            logger.warning("a metric must be in the catalogue, found %s in a report; left out", name)

    def _observe_evaluation(self, report: EvaluationReport) -> None:
        self.values.set("less_evaluation_accuracy_ratio", report.accuracy)
        self.values.set("less_evaluation_step", report.step)
        self.values.set("less_evaluation_decided_answers", report.num_decided)
        self.values.set("less_evaluation_response_tokens", report.mean_response_tokens)
        self.values.observe("less_evaluation_seconds", report.seconds)
        for name, value in report.metrics.items():
            if found := _SCORE.fullmatch(name):
                benchmark, score, k = found.groups()
                self.values.set(f"less_evaluation_{score}_at_k_ratio", value, benchmark=benchmark, k=k)

    def _observe_event(self, event: RunEvent) -> None:
        if event.kind == "group_retried":
            self.values.add("less_rollout_group_retries_total", 1)
        elif event.kind == "checkpoint_failed":
            self.values.add("less_checkpoint_failures_total", 1)
        elif event.kind == "checkpoint_saved":
            self._observe_saved(event.details)
        elif event.kind == "checkpoint_loaded":
            self._observe_checkpoint_time("load", event.details)
        elif event.kind in _WORKER_EVENTS:
            for each in event.workers:
                self.values.add(_WORKER_EVENTS[event.kind], 1, role=_known(each.role, ROLES))
        self.see_workers(event.workers)

    def _observe_saved(self, details: Mapping[str, object]) -> None:
        self.values.set("less_checkpoint_last_success_timestamp_seconds", self._clock())
        if isinstance(size := details.get("bytes"), int | float):
            self.values.set("less_checkpoint_bytes", size)
        self._observe_checkpoint_time("save", details)

    def _observe_checkpoint_time(self, operation: str, details: Mapping[str, object]) -> None:
        if isinstance(seconds := details.get("seconds"), int | float):
            self.values.observe("less_checkpoint_seconds", seconds, operation=operation)

    def _observe_buffer(self, report: BufferReport) -> None:
        for queue in QUEUES:
            if queue in report.queues:
                depth, capacity = report.queues[queue]
                self.values.set("less_queue_groups", depth, queue=queue)
                if queue in BOUNDED_QUEUES:
                    self.values.set("less_queue_capacity_groups", capacity, queue=queue)
        if "in_flight" in report.queues:
            self.values.set("less_rollout_inflight_groups", report.queues["in_flight"][0])
        served = [
            each.policy_version
            for each in report.workers
            if each.policy_version is not None and each.standing in _SERVING
        ]
        if served:
            self.values.set("less_policy_version", min(served), component="rollout_min")
            self.values.set("less_policy_version", max(served), component="rollout_max")
        self._standings = {each.worker_id: (each.role, each.standing) for each in report.workers}
        self._count_workers()

    def _count_workers(self) -> None:
        """By what they do where that is told, by how they started otherwise."""
        known = {name: (each.role, each.state) for name, each in self._workers.items()} | self._standings
        tally = Tally((_known(role, ROLES), _known(state, WORKER_STATES)) for role, state in known.values())
        for role, state in product(ROLES, WORKER_STATES):
            self.values.set("less_workers", tally[role, state], role=role, state=state)

    def _describe(self, description: RunDescription, version: str) -> None:
        self.values.tell("less_build_info", {"version": version})
        facts = {
            "model": description.model,
            "algorithm": description.algorithm,
            "shaping": description.shaping,
            "recipe_hash": description.recipe_hash,
        }
        self.values.tell("less_run_info", facts)
        self.values.set("less_run_target_steps", description.total_steps)
        self.values.set("less_run_step", 0)
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


def _labels(entry: Entry) -> dict[str, str]:
    return {entry.metric.label: entry.value} if entry.metric.label and entry.value else {}
