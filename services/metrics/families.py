"""The rest of the metric catalogue: Prometheus families that are fed by events, states, levels and requests."""

from services.metrics.catalogue import Family, FamilyKind
from services.reports import PauseMode, RunState
from shaping import histograms

PHASES = ("wait_batch", "train", "weight_sync", "evaluation", "checkpoint", "other")
ROLES = ("rollout", "shaping", "learner", "other")
WORKER_STATES = (
    *("starting", "ready", "failed", "stopped"),
    *("serving", "behind", "lent", "draining", "out", "lost", "other"),
)
"""How a worker started, and what it does since."""
BOUNDED_QUEUES = ("in_flight", "buffered")
QUEUES = (*BOUNDED_QUEUES, "rollout", "shaping")
"""Groups admitted and not yet shaped, and shaped ones that wait for the learner; work that rollout workers (evaluations
included) and shaping actors have been asked for."""
IDLE_CAUSES = ("weights", "back_pressure", "pause", "no_work")
EVALUATION_SCORES = ("mean", "worst", "std", "pass")
CODES = ("2xx", "3xx", "4xx", "5xx")

_COUNTER, _GAUGE = FamilyKind.COUNTER, FamilyKind.GAUGE
_HISTOGRAM, _INFO = FamilyKind.HISTOGRAM, FamilyKind.INFO

_RUN = (
    Family("less_build_info", _INFO, "Version of lessrl"),
    Family("less_run_info", _INFO, "Model, algorithm, shaping and recipe of the run"),
    Family("less_run_state", _GAUGE, "1 for the current state, 0 for the others", labels={"state": tuple(RunState)}),
    Family("less_run_step", _GAUGE, "Finished learner steps", "steps"),
    Family("less_run_target_steps", _GAUGE, "Learner steps that the run will make", "steps"),
    Family("less_run_last_step_timestamp_seconds", _GAUGE, "When the last step was reported", "seconds since 1970"),
    Family("less_run_paused_seconds_total", _COUNTER, "Time spent paused", "seconds", {"mode": tuple(PauseMode)}),
    Family(
        "less_run_pauses_total",
        _COUNTER,
        "Pauses that a user asked for, by how they ended",
        "pauses",
        {"mode": tuple(PauseMode), "result": ("succeeded", "failed")},
    ),
    Family(
        "less_policy_version",
        _GAUGE,
        "Policy version of the learner, and the oldest and newest that a rollout worker serves",
        "versions",
        {"component": ("learner", "rollout_min", "rollout_max")},
    ),
    Family(
        "less_rollout_generated_tokens_total",
        _COUNTER,
        "Response tokens of finished steps, dropped groups' too",
        "tokens",
    ),
    Family(
        "less_rollout_group_retries_total", _COUNTER, "Groups asked for again because their worker failed", "groups"
    ),
    Family("less_rollout_finished_groups_total", _COUNTER, "Groups that were shaped, also between steps", "groups"),
    Family("less_rollout_inflight_groups", _GAUGE, "Groups admitted and not yet shaped", "groups"),
    Family(
        "less_rollout_worker_idle_seconds_total",
        _COUNTER,
        "Time of rollout workers without work, by cause",
        "worker seconds",
        {"cause": IDLE_CAUSES},
    ),
    Family("less_queue_groups", _GAUGE, "What waits or is under way in a place", "groups", {"queue": QUEUES}),
    Family(
        "less_queue_capacity_groups", _GAUGE, "What may be in that place at most", "groups", {"queue": BOUNDED_QUEUES}
    ),
    Family("less_step_seconds", _HISTOGRAM, "Wall time of a step", "seconds", {}, histograms.SECONDS),
    Family(
        "less_step_phase_seconds_total",
        _COUNTER,
        "Wall time by phase; adds up to the steps",
        "seconds",
        {"phase": PHASES},
    ),
    Family(
        "less_checkpoint_seconds",
        _HISTOGRAM,
        "Time to write a checkpoint, or to go on from one",
        "seconds",
        {"operation": ("save", "load")},
        histograms.SECONDS,
    ),
    Family("less_checkpoint_bytes", _GAUGE, "Size of the newest checkpoint", "bytes"),
    Family("less_checkpoint_last_success_timestamp_seconds", _GAUGE, "When it was written", "seconds since 1970"),
    Family("less_checkpoint_failures_total", _COUNTER, "Checkpoints that could not be written", "checkpoints"),
    Family(
        "less_workers",
        _GAUGE,
        "Workers by role and state",
        "workers",
        {"role": ROLES, "state": WORKER_STATES},
    ),
    Family("less_worker_restarts_total", _COUNTER, "Workers that were started again", "restarts", {"role": ROLES}),
    Family("less_worker_losses_total", _COUNTER, "Workers that went out, or died", "workers", {"role": ROLES}),
    Family("less_evaluation_accuracy_ratio", _GAUGE, "Held-out accuracy: correct / decided rollouts", "ratio"),
    Family("less_evaluation_step", _GAUGE, "Step after which it was measured", "steps"),
    Family("less_evaluation_decided_answers", _GAUGE, "Held-out answers with a verdict", "answers"),
    Family("less_evaluation_response_tokens", _GAUGE, "Mean length of held-out responses", "tokens"),
    Family("less_evaluation_seconds", _HISTOGRAM, "Wall time of an evaluation", "seconds", {}, histograms.SECONDS),
    *(
        Family(
            f"less_evaluation_{score}_at_k_ratio",
            _GAUGE,
            f"{score}@k of a benchmark, see docs/evaluation.md",
            "ratio",
            {"benchmark": (), "k": ()},
        )
        for score in EVALUATION_SCORES
    ),
    Family(
        "less_metrics_push_dropped_total",
        _COUNTER,
        "Reports of the run that never reached its control plane",
        "reports",
    ),
    Family(
        "less_metrics_unknown_total",
        _COUNTER,
        "Numbers left out because the catalogue does not know their name",
        "numbers",
    ),
    Family("less_metrics_unusable_total", _COUNTER, "Numbers left out: not finite, or a count below 0", "numbers"),
)
_SERVICE = (
    Family(
        "less_api_requests_total",
        _COUNTER,
        "Requests to the control plane, by route template and class of status code",
        "requests",
        {"method": (), "route": (), "code": CODES},
        of_run=False,
    ),
    Family(
        "less_api_request_seconds",
        _HISTOGRAM,
        "Time until the control plane's answer began",
        "seconds",
        {"route": ()},
        (0.005, 0.02, 0.05, 0.2, 1.0, 5.0),
        of_run=False,
    ),
    Family("less_api_stream_clients", _GAUGE, "Open event and log streams", "streams", of_run=False),
)
FAMILIES = (*_RUN, *_SERVICE)
"""What is fed by something else than a step's numbers."""
