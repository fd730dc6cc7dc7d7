"""lessrl-infrastructure: workers, pauses, weight sync, checkpoints and the API; Ray and vLLM below them."""

from dashboards.frame import RAY_JOB, dashboard
from dashboards.machines import ENGINES, MACHINES
from dashboards.model import Dashboard, Query, Section, Unit, good_below
from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from dashboards.panels import lines, per_run, per_run_and, rare, tail_by
from dashboards.promql import WINDOW, level, mean, per_step_second, rate, service_samples

_MODES = {"drain": BLUE, "freeze": SKY, "abort": VERMILION}
_PHASES = {
    **{"propose": GREY, "prepare": SKY, "transfer": BLUE, "verify": PURPLE},
    **{"commit": GREEN, "canary": ORANGE, "abort": VERMILION},
}
_CODES = {"2xx": GREEN, "3xx": GREY, "4xx": ORANGE, "5xx": VERMILION}

_WORKERS = Section(
    "Workers and pauses",
    (
        lines(
            "Workers",
            "By role and state. Good: all serving or ready; a lost or failed one is started again, see the marks.",
            Unit.COUNT,
            Query(f"{level('less_workers', 'role', 'state')} > 0", "{{run_id}} {{role}} {{state}}"),
            axis="workers",
            minimum=0,
        ),
        rare(
            "Workers started again",
            "In the window before each point, by role. Good: 0; more than 2 in half an hour is WorkerRestarting.",
            "less_worker_restarts_total",
            "role",
        ),
        rare(
            "Workers lost",
            "Went out or died, in the window before each point, by role. Good: 0.",
            "less_worker_losses_total",
            "role",
        ),
        rare(
            "Pauses",
            "That a user asked for, by mode and how they ended, in the window before each point. Good: succeeded.",
            "less_run_pauses_total",
            "mode",
            "result",
            width=12,
        ),
        lines(
            "Time paused",
            "Part of the time that was spent paused, by the mode that was asked for. Good: 0 unless somebody meant it.",
            Unit.RATIO,
            per_run_and("mode", rate("less_run_paused_seconds_total", "mode")),
            colours=_MODES,
            minimum=0,
            width=12,
        ),
    ),
)
_WEIGHTS = Section(
    "Weight sync",
    (
        lines(
            "Time of a weight sync by phase",
            "Mean seconds, all attempts of a sync together. Good: transfer is the largest; all together below a tenth "
            "of the step.",
            Unit.SECONDS,
            per_run_and("phase", mean("less_weight_sync_seconds", "phase")),
            colours=_PHASES,
            minimum=0,
        ),
        lines(
            "Slow weight syncs by phase",
            "95 of 100 are below. Good: near the mean; prepare far above it waits for long requests to end.",
            Unit.SECONDS,
            *tail_by("less_weight_sync_seconds", "phase"),
            colours=_PHASES,
            minimum=0,
        ),
        lines(
            "Weights sent",
            "Bytes to all engines per second of the steps. Good: level.",
            Unit.BYTES_PER_SECOND,
            per_run(per_step_second("less_weight_sync_bytes_total")),
            minimum=0,
        ),
        lines(
            "Canary",
            "Largest difference of an engine's and the learner's log-prob on one fixed prompt, right after the sync. "
            "Good: as the mismatch on the learner dashboard; above 0.1 nats CanaryDifference: other weights are "
            "served.",
            Unit.NATS,
            per_run(level("less_weight_sync_canary_difference_nats")),
            limits=good_below(0.05, 0.1),
            minimum=0,
        ),
        rare(
            "Weight syncs tried again",
            "Aborted attempts in the window before each point. Good: 0; one comes with a worker that died under it.",
            "less_weight_sync_aborts_total",
        ),
        rare(
            "Engines left out",
            "Engines that a sync went on without, in the window before each point. Good: 0.",
            "less_weight_sync_left_out_total",
        ),
    ),
)
_CHECKPOINTS = Section(
    "Checkpoints",
    (
        lines(
            "Time of a checkpoint",
            "Mean time to write one (save), or to go on from one (load). Good: save is a small part of the steps "
            "between two.",
            Unit.SECONDS,
            per_run_and("operation", mean("less_checkpoint_seconds", "operation")),
            colours={"save": BLUE, "load": ORANGE},
            width=6,
            minimum=0,
        ),
        lines(
            "Age of the newest checkpoint",
            "What came after it is lost when the learner dies. Good: below 2 hours (CheckpointStale).",
            Unit.SECONDS,
            per_run(f"time() - {level('less_checkpoint_last_success_timestamp_seconds')}"),
            limits=good_below(3600, 7200),
            width=6,
            minimum=0,
        ),
        lines(
            "Size of the newest checkpoint",
            "Weights, optimizer, groups and memories. Good: level; 16 bytes and more for each parameter.",
            Unit.BYTES,
            per_run(level("less_checkpoint_bytes")),
            width=6,
            minimum=0,
        ),
        rare(
            "Checkpoints that failed",
            "In the window before each point. Good: 0 (CheckpointFailed); mostly a full disk.",
            "less_checkpoint_failures_total",
            width=6,
        ),
    ),
)
_FAULTS = Section(
    "What should never be",
    (
        rare(
            "Reports that never arrived",
            "Of the run to its control plane, in the window before each point. Good: 0 (PushDropped): numbers of these "
            "steps are missing here, and are in metrics.jsonl.",
            "less_metrics_push_dropped_total",
            width=6,
        ),
        rare(
            "Checksums that did not agree",
            "Engines whose own checksums were not the learner's, in the window before each point. Good: 0; such an "
            "engine does not serve.",
            "less_weight_sync_checksum_mismatch_total",
            width=6,
        ),
        rare(
            "Numbers without a name",
            "Numbers of a report that the catalogue does not know, in the window before each point. "
            "Good: 0 (UnknownMetrics); a plug-in measures something that the catalogue lacks.",
            "less_metrics_unknown_total",
            width=6,
        ),
        rare(
            "Numbers of no use",
            "Not finite, or counts below 0, in the window before each point. Good: 0.",
            "less_metrics_unusable_total",
            width=6,
        ),
    ),
)
_API = Section(
    "Control plane",
    (
        lines(
            "Requests",
            "Per second, by class of status code. Good: 5xx is 0; 4xx are callers' mistakes, or somebody without a "
            "token.",
            Unit.PER_SECOND,
            Query(f"sum by (code) (rate({service_samples('less_api_requests_total')}[{WINDOW}]))", "{{code}}"),
            colours=_CODES,
            minimum=0,
        ),
        lines(
            "Time of answers",
            "95 of 100 answers began within, by route. Good: below 0.2 s.",
            Unit.SECONDS,
            Query(
                "histogram_quantile(0.95, sum by (le, route) "
                f"(rate({service_samples('less_api_request_seconds_bucket')}[{WINDOW}]))) >= 0",
                "{{route}}",
            ),
            limits=good_below(0.2, 1),
            minimum=0,
        ),
        lines(
            "Open streams",
            "Event and log streams: pages, `lessrl top`, followers. Good: as many as people watch.",
            Unit.COUNT,
            Query(f"sum({service_samples('less_api_stream_clients')})", "streams"),
            minimum=0,
        ),
    ),
)


def infrastructure() -> Dashboard:
    """What the run stands on."""
    return dashboard(
        "infrastructure",
        "Infrastructure",
        "Workers, pauses, weight sync, checkpoints and the API, with Ray and vLLM below them.",
        *(_WORKERS, _WEIGHTS, _CHECKPOINTS, _FAULTS, _API, ENGINES, MACHINES),
        variables=(RAY_JOB,),
    )
