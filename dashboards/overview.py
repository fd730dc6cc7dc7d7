"""lessrl-overview: is a run alive, does it learn, and how fast."""

from dashboards.frame import dashboard
from dashboards.model import Dashboard, Kind, Panel, Query, Section, Unit, good_above, good_below
from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from dashboards.panels import lines, mean_and_tail, mixture, number, per_run, per_run_and
from dashboards.promql import level, mean, part, per_step, per_step_second, run_samples, service_samples

_STATES = {
    **{"pending": GREY, "starting": SKY, "running": GREEN},
    **{"pausing": ORANGE, "paused": ORANGE, "resuming": SKY},
    **{"cancelling": PURPLE, "completed": BLUE, "failed": VERMILION, "cancelled": PURPLE},
}
PHASE_COLOURS = {
    **{"wait_batch": ORANGE, "train": GREEN, "weight_sync": BLUE},
    **{"evaluation": PURPLE, "checkpoint": SKY, "other": GREY},
}

_AT_WORK = f"sum by (run_id, role) ({level('less_workers', 'role', 'state', state='~ready|serving|behind|lent')})"
_STEP, _TARGET = level("less_run_step"), level("less_run_target_steps")
_IS_RUNNING = level("less_run_state", state="running")
_ABOUT = (
    f"max by (run_id, model, algorithm, shaping, recipe_hash) ({run_samples('less_run_info')})"
    " * on (run_id) group_left (version)"
    # One of them, as there are two for some minutes after an upgrade.
    f" topk by (run_id) (1, max by (run_id, version) ({run_samples('less_build_info')}))"
)

# Prometheus may have alerts of others. Those on a run have its id; these two are on what runs stand on.
_ALERTS = (
    f"{run_samples('ALERTS', alertstate='firing')}"
    f" or {service_samples('ALERTS', alertname='~ControlPlaneDown|GPUMemoryHigh', alertstate='firing')}"
)

_RUNS = Section(
    "Runs",
    (
        Panel(
            title="State",
            description="The state of each run over time. Good: running until completed; failed needs somebody to "
            "look.",
            queries=(per_run_and("state", f"{level('less_run_state', 'state')} > 0"),),
            unit=Unit.NUMBER,
            kind=Kind.STATES,
            colours=_STATES,
            width=12,
            height=6,
        ),
        Panel(
            title="About",
            description="What each run trains, with which recipe, and the version of lessrl. "
            "Good: runs that you compare differ in what you meant to change, and the recipe's hash says if in more.",
            queries=(Query(_ABOUT, "{{run_id}}"),),
            unit=Unit.NUMBER,
            kind=Kind.TABLE,
            width=12,
            height=6,
        ),
        number("Step", "Finished learner steps. Good: it rises.", Unit.NUMBER, _STEP),
        number(
            "Of planned steps",
            "Finished learner steps / planned steps. Good: it rises to 1.",
            Unit.RATIO,
            f"{_STEP} / ({_TARGET} > 0)",
        ),
        number(
            "Time left",
            "Planned steps that are not finished x the mean time of the newest steps. Good: it falls as fast as the "
            "clock goes. Pauses are not foreseen.",
            Unit.SECONDS,
            f"({_TARGET} - {_STEP}) * ({mean('less_step_seconds')})",
        ),
        number(
            "Since the last step",
            "Time since a step was reported, while the run is running. "
            "Good: below twice the step time; StepStuck alerts at five times.",
            Unit.SECONDS,
            f"time() - {level('less_run_last_step_timestamp_seconds')} and on (run_id) {_IS_RUNNING} == 1",
        ),
        number(
            "Policy version",
            "Version of the learner's policy, the start being 0. Good: it rises with the steps.",
            Unit.NUMBER,
            level("less_policy_version", component="learner"),
        ),
        number(
            "Groups per step",
            "Groups that a step trained, the mean of the newest steps. Good: rollout.groups_per_step of the recipe.",
            Unit.COUNT,
            per_step("less_groups_trained_total"),
        ),
        number(
            "Held-out accuracy",
            "Correct held-out answers / decided ones, at the last evaluation. Good: it rises from evaluation to "
            "evaluation by more than its noise; see the evaluation dashboard.",
            Unit.RATIO,
            level("less_evaluation_accuracy_ratio"),
        ),
        Panel(
            title="Alerts",
            description="Alerts on these runs, their control planes and GPUs that fire now, see docs/runbook.md. "
            "Good: 0. Also 0 where Prometheus has no rules.",
            queries=(Query(f"sum({_ALERTS}) or vector(0)", "alerts"),),
            unit=Unit.NUMBER,
            kind=Kind.STAT,
            limits=good_below(1),
            width=3,
            height=4,
        ),
    ),
)
_LEARNING = Section(
    "Does it learn",
    (
        lines(
            "Reward",
            "Mean weighted reward of a step's rollouts. Good: it rises, then stays. "
            "A fall together with a longer response or a lower entropy is the usual collapse.",
            Unit.NUMBER,
            per_run(level("less_reward_total_value")),
        ),
        lines(
            "Accuracy",
            "Correct rollouts of a step / scored ones, and the same on held-out prompts. "
            "Good: both rise. Training alone rising means that the policy learns the prompts.",
            Unit.RATIO,
            per_run(level("less_reward_correct_ratio"), "training"),
            per_run(level("less_evaluation_accuracy_ratio"), "held-out"),
            colours={"training": BLUE, "held-out": ORANGE},
            minimum=0,
            maximum=1,
        ),
        lines(
            "Mixed groups",
            "Groups with correct and incorrect rollouts / groups that were scored. Only these have an advantage. "
            "Good: above 0.3; below 0.1 the prompts are too easy or too hard (MixedGroupsLow).",
            Unit.RATIO,
            per_run(part("less_groups_total", outcome="mixed")),
            limits=good_above(0.3, 0.1),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Response length",
            "Mean length of a step's responses. Good: slow change. "
            "A steep rise up to the limit comes with truncation, a fall to a few tokens is collapse.",
            Unit.COUNT,
            per_run(level("less_rollout_response_tokens")),
            axis="tokens",
            minimum=0,
        ),
        lines(
            "Token entropy",
            "Mean entropy of the sampler's tokens. Good: a slow fall that levels off. "
            "Near 0 the policy explores nothing more; a sudden rise is a policy that falls apart.",
            Unit.NATS,
            per_run(level("less_rollout_entropy_nats")),
            minimum=0,
        ),
        lines(
            "Truncated responses",
            "Responses that were cut at the length limit / scored responses. Good: below 0.1; above 0.2 "
            "TruncationHigh.",
            Unit.RATIO,
            per_run(level("less_rollout_truncated_ratio")),
            limits=good_below(0.1, 0.2),
            minimum=0,
        ),
    ),
)
_SPEED = Section(
    "How fast",
    (
        lines(
            "Tokens per second",
            "Response tokens, and tokens that the learner trained, per second of the steps. Good: level. "
            "The first falls with a lost worker.",
            Unit.COUNT,
            per_run(per_step_second("less_rollout_generated_tokens_total"), "sampled"),
            per_run(per_step_second("less_learner_tokens_total"), "trained"),
            colours={"sampled": BLUE, "trained": GREEN},
            axis="tokens/s",
            minimum=0,
        ),
        lines(
            "Step time",
            "Wall time of a step: mean, and 95 of 100 are below. Good: level, grows with the response length alone.",
            Unit.SECONDS,
            *mean_and_tail("less_step_seconds"),
            minimum=0,
        ),
        mixture(
            "Where a step's time goes",
            "Parts of the steps' wall time; they add up to it. Good: mostly train, or wait_batch where sampling is the "
            "slower half. A growing other is time that nobody accounts for.",
            "less_step_phase_seconds_total",
            "phase",
            PHASE_COLOURS,
        ),
        lines(
            "Staleness",
            "Policy versions that a trained group was behind the learner: mean, and 95 of 100 are below. "
            "Good: at most run.max_staleness of the recipe, 0 for a synchronous run.",
            Unit.NUMBER,
            *mean_and_tail("less_learner_staleness_versions"),
            axis="versions",
            minimum=0,
        ),
        lines(
            "Groups under way",
            "Groups admitted and not yet shaped. Good: above 0, but for the learner's steps in a synchronous run; "
            "at 0 most of the time, the learner is the slower half.",
            Unit.COUNT,
            per_run(level("less_rollout_inflight_groups")),
            axis="groups",
            minimum=0,
        ),
        lines(
            "Workers",
            "Workers that can work, by role: ready, serving, behind by a version, or lent to an evaluation. Good: as "
            "many as the recipe asks for. One that is out costs speed, not groups: these are asked for again.",
            Unit.COUNT,
            per_run_and("role", _AT_WORK),
            axis="workers",
            minimum=0,
            is_stacked=True,
        ),
    ),
)


def overview() -> Dashboard:
    """Whether a run is well."""
    return dashboard("overview", "Overview", "Is a run alive, does it learn, and how fast.", _RUNS, _LEARNING, _SPEED)
