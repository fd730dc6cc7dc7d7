"""lessrl-rollout: sampling, its workers and queues, and what the verifiers said."""

from dashboards.frame import dashboard
from dashboards.hints import ADMISSION, HINTS
from dashboards.model import Dashboard, Section, Unit, good_below
from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERDICTS, VERMILION
from dashboards.panels import density, lines, mean_and_tail, mixture, per_run, per_run_and, rare, share_lines, tail_by
from dashboards.promql import level, mean, part, per_step, per_step_second, quantile, quotient, rate

_STOPS = {"eos": GREEN, "stop_string": SKY, "length": VERMILION}
_VERDICTS = {
    **{"correct": GREEN, "wrong": VERMILION, "unparsable": ORANGE},
    **{"timed_out": PURPLE, "crashed": GREY, "too_long": SKY},
}
_CAUSES = {"weights": BLUE, "back_pressure": ORANGE, "pause": PURPLE, "no_work": GREY}
_COMPONENTS = {"learner": GREEN, "rollout_min": ORANGE, "rollout_max": BLUE}
_MISSING = "~timed_out|crashed"

_THROUGHPUT = Section(
    "Throughput",
    (
        lines(
            "Tokens per second",
            "Response tokens, and prompt tokens once for each rollout, per second of the steps. Good: level; it falls "
            "with a lost worker, and with longer responses as fewer fit beside each other.",
            Unit.COUNT,
            per_run(per_step_second("less_rollout_generated_tokens_total"), "response"),
            per_run(per_step_second("less_rollout_prompt_tokens_total"), "prompt"),
            colours={"response": BLUE, "prompt": GREY},
            axis="tokens/s",
            minimum=0,
        ),
        lines(
            "Finished groups",
            "Groups per second that were sampled, scored and shaped. This one rises between steps too. "
            "Good: never 0 for ten minutes while the run is running (NoProgress).",
            Unit.PER_SECOND,
            per_run(rate("less_rollout_finished_groups_total")),
            axis="groups/s",
            minimum=0,
        ),
        lines(
            "Idle workers",
            "Rollout workers without a request, on average, by cause. Good: near 0; weights: the weight sync is slow; "
            "back_pressure: the learner is the slower half; no_work: more workers than groups.",
            Unit.COUNT,
            per_run_and("cause", rate("less_rollout_worker_idle_seconds_total", "cause")),
            colours=_CAUSES,
            axis="workers",
            minimum=0,
        ),
        lines(
            "Groups in each place",
            "in_flight: admitted and not yet shaped; rollout, shaping: asked of these workers; buffered: shaped, "
            "waiting for the learner. Good: rollout is not 0.",
            Unit.COUNT,
            per_run_and("queue", level("less_queue_groups", "queue")),
            per_run(level("less_rollout_inflight_groups"), "not shaped"),
            axis="groups",
            minimum=0,
        ),
        lines(
            "How full each place is",
            "Groups / what may be there at most. Good: in_flight near 1, the workers are used. in_flight at 0 and "
            "buffered at s / (s + 1) for run.max_staleness s: the learner is the slower half (QueueFull).",
            Unit.RATIO,
            per_run_and(
                "queue",
                quotient(level("less_queue_groups", "queue"), level("less_queue_capacity_groups", "queue")),
            ),
            minimum=0,
        ),
        lines(
            "Waiting time",
            "95 of 100 trained groups waited less: for a shaping actor and in it, or shaped for the learner. "
            "Good: shaping below 1 s; learner below a step's time.",
            Unit.SECONDS,
            *tail_by("less_queue_wait_seconds", "queue"),
            minimum=0,
        ),
    ),
)
_GROUPS = Section(
    "Groups",
    (
        lines(
            "Time of a group",
            "From admission to its last response: mean, and 95 of 100 are below. Good: the tail is below twice the "
            "mean; one straggler holds a synchronous step up.",
            Unit.SECONDS,
            *mean_and_tail("less_rollout_group_seconds"),
            minimum=0,
        ),
        density(
            "Times of groups",
            "Where they lie, as part of the trained groups. Good: one band; two bands are two kinds of workers or "
            "prompts.",
            Unit.SECONDS,
            "less_rollout_group_seconds",
        ),
        lines(
            "Groups that ended, per step",
            "Groups that ended since the last step's batch, and those that were trained. Good: equal without a filter; "
            "with one, the distance is what the filter costs.",
            Unit.COUNT,
            per_run(per_step("less_groups_attempts_total"), "ended"),
            per_run(per_step("less_groups_trained_total"), "trained"),
            colours={"ended": GREY, "trained": GREEN},
            axis="groups",
            minimum=0,
        ),
        share_lines(
            "Dropped groups",
            "Groups that were not trained / groups that ended, by reason. Good: 0 without a filter.",
            "less_groups_dropped_total",
            "reason",
            "less_groups_attempts_total",
            {},
        ),
        share_lines(
            "Discarded tokens",
            "Response tokens of groups that were not trained / all response tokens, by reason. Good: below 0.5 with a "
            "filter, 0 without.",
            "less_rollout_discarded_tokens_total",
            "reason",
            "less_rollout_generated_tokens_total",
            {},
        ),
        rare(
            "Groups asked for again",
            "Because their worker failed, in the window before each point. Good: 0.",
            "less_rollout_group_retries_total",
        ),
    ),
)
_RESPONSES = Section(
    "Responses",
    (
        lines(
            "Response length",
            "Mean and longest of the last step. Good: the mean well below the longest allowed, which the recipe sets.",
            Unit.COUNT,
            per_run(level("less_rollout_response_tokens"), "mean"),
            per_run(level("less_rollout_response_max_tokens"), "longest"),
            colours={"mean": BLUE, "longest": GREY},
            axis="tokens",
            minimum=0,
        ),
        lines(
            "Response length by verdict",
            "Mean, from exact sums. Good: near each other; incorrect ones far longer is rambling, "
            "or correct answers that are cut.",
            Unit.COUNT,
            per_run_and("outcome", mean("less_rollout_response_length_tokens", "outcome")),
            colours=VERDICTS,
            axis="tokens",
            minimum=0,
        ),
        mixture(
            "Why responses ended",
            "eos and stop_string: the policy ended; length: cut at the limit. Good: length below 0.1.",
            "less_rollouts_total",
            "stop_reason",
            _STOPS,
        ),
        density(
            "Lengths of correct responses",
            "Where they lie, as part of the correct ones. Good: away from the limit.",
            Unit.COUNT,
            "less_rollout_response_length_tokens",
            axis="tokens",
            outcome="correct",
        ),
        density(
            "Lengths of incorrect responses",
            "Where they lie, as part of the incorrect ones. Good: as the correct ones; a band at the limit is "
            "truncation.",
            Unit.COUNT,
            "less_rollout_response_length_tokens",
            axis="tokens",
            outcome="incorrect",
        ),
        lines(
            "Truncated responses",
            "Cut at the length limit / scored responses. Good: below 0.1; above 0.2 TruncationHigh.",
            Unit.RATIO,
            per_run(level("less_rollout_truncated_ratio")),
            limits=good_below(0.1, 0.2),
            minimum=0,
        ),
    ),
)
_REWARDS = Section(
    "Rewards and verdicts",
    (
        lines(
            "Parts of the reward",
            "Each reward of the recipe before its weight, the mean of the last step. Good: the one that decides "
            "correctness rises; another rising while it falls is a reward that is gamed.",
            Unit.NUMBER,
            per_run_and("reward", level("less_reward_part_value", "reward")),
        ),
        density(
            "Rewards",
            "Where the weighted rewards lie, as part of the scored rollouts. Good: at the values that your rewards can "
            "have, moving up.",
            Unit.NUMBER,
            "less_reward_value",
        ),
        mixture(
            "Verdicts",
            "Rollouts by what the verifier said. timed_out and crashed are no verdict: left out, never scored 0. "
            "Good: correct grows; unparsable falls to 0 in the first steps.",
            "less_verdict_rollouts_total",
            "status",
            _VERDICTS,
        ),
        lines(
            "Rollouts without a verdict",
            "timed_out or crashed / all rollouts. Good: below 0.01 (RewardTimeouts).",
            Unit.RATIO,
            per_run(part("less_verdict_rollouts_total", status=_MISSING)),
            limits=good_below(0.01),
            minimum=0,
        ),
        lines(
            "Time of the verifiers",
            "For a group: mean, and 95 of 100 are below. Good: below 1 s, and below a tenth of a group's sampling.",
            Unit.SECONDS,
            *mean_and_tail("less_reward_seconds"),
            limits=good_below(1),
            minimum=0,
        ),
        rare(
            "Verifier processes begun anew",
            "Killed at their time limit, or died, in the window before each point. Good: rare; one answer that hangs "
            "costs one process.",
            "less_verdict_worker_restarts_total",
        ),
    ),
)
_STALENESS = Section(
    "Versions",
    (
        lines(
            "Policy version",
            "Of the learner, and the oldest and newest that a rollout worker serves. Good: rollout_min is within "
            "run.max_staleness of the learner.",
            Unit.NUMBER,
            per_run_and("component", level("less_policy_version", "component")),
            colours=_COMPONENTS,
            axis="version",
        ),
        lines(
            "Staleness",
            "Versions that a trained group was behind: mean of the last step, and 95 of 100 groups are below. "
            "Good: at most run.max_staleness.",
            Unit.NUMBER,
            per_run(level("less_learner_staleness_mean_versions"), "mean"),
            per_run(quantile(0.95, "less_learner_staleness_versions"), "p95"),
            axis="versions",
            minimum=0,
        ),
        density(
            "Staleness of groups",
            "Where it lies, as part of the trained groups. Good: in a synchronous run all at 0.",
            Unit.NUMBER,
            "less_learner_staleness_versions",
            axis="versions",
        ),
    ),
)


def rollout() -> Dashboard:
    """From prompts to scored groups."""
    return dashboard(
        "rollout",
        "Rollout",
        "Sampling, its workers and queues, responses, rewards, verdicts and hints.",
        *(_THROUGHPUT, _GROUPS, _RESPONSES, _REWARDS, HINTS, _STALENESS, ADMISSION),
    )
