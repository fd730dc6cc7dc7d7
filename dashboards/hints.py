"""Rows of lessrl-rollout that most runs leave empty: groups sampled in rounds with hints, and surplus of admission."""

from dashboards.model import Section, Unit, good_below
from dashboards.palette import GREEN, OUTCOMES, VERMILION
from dashboards.panels import lines, per_run, per_run_and, rare
from dashboards.promql import level

_ENDS = {"none": GREEN, "most": VERMILION}
_OUTCOMES = {"all_wrong": OUTCOMES["all_incorrect"], "all_correct": OUTCOMES["all_correct"]}
_ABSENT = "Absent without hints."

HINTS = Section(
    "Hints",
    (
        lines(
            "Accuracy by round",
            "Correct / decided rollouts of each round of the groups. Good: the first round is where the policy stands "
            "with the last visit's hint, the last is near 0.5, the target, from where most is learned. "
            "Absent where a group has one round.",
            Unit.RATIO,
            per_run_and("round", level("less_hint_round_accuracy", "round")),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Hint rate",
            "Mean over rollouts: 0 is no hint, 1 the whole solution. Good: it falls, as the policy needs less help. "
            f"{_ABSENT}",
            Unit.RATIO,
            per_run(level("less_hint_rate_mean")),
            minimum=0,
            maximum=1,
        ),
        lines(
            "Error of the accuracy curves",
            "Distance of a prompt's fitted curve from the accuracies of its rounds, root mean square, the mean of "
            "the prompts. Good: below 0.1, as few rounds let a curve through nearly all of them; above it accuracy "
            f"does not rise with the hint. {_ABSENT}",
            Unit.NUMBER,
            per_run(level("less_hint_fit_error")),
            limits=good_below(0.1),
            minimum=0,
        ),
        lines(
            "Rates at an end",
            "Rounds whose rate the curve put below no hint (none), or above the longest hint that leaves a step to "
            "make (most) / rounds with a fit. Good: most below 0.3; above it the problems are too hard even with "
            f"their hints. none near 1 says that hints are needed no more. {_ABSENT}",
            Unit.RATIO,
            per_run_and("end", level("less_hint_clipped_ratio", "end")),
            colours=_ENDS,
            minimum=0,
            maximum=1,
        ),
        lines(
            "Hinted groups without signal",
            "Groups whose rollouts, all rounds together, are all wrong or all correct. Good: both below 0.1, what "
            f"hints are for. {_ABSENT}",
            Unit.RATIO,
            per_run_and("outcome", level("less_hint_groups_ratio", "outcome")),
            colours=_OUTCOMES,
            limits=good_below(0.1),
            minimum=0,
        ),
        rare(
            "Groups between two versions",
            "Groups whose next round would have been sampled by other weights, in the window before each point: "
            "closed with the rounds they had, or begun again. Good: 0 in a synchronous run; begun_again costs the "
            "group's tokens.",
            "less_hint_mixed_version_groups_total",
            "ending",
        ),
    ),
)
ADMISSION = Section(
    "Surplus of admission",
    (
        lines(
            "Groups left over",
            "Kept groups that a step left for the next: run.admission asks for more than a batch where groups are "
            "dropped. Good: below a batch; growing, over_sampling is too high for the share that is kept.",
            Unit.COUNT,
            per_run(level("less_admission_surplus_groups")),
            axis="groups",
            minimum=0,
            width=12,
        ),
        lines(
            "Age of groups left over",
            "Versions that they were behind when they were trained, the mean. Good: 1, the next step took them. "
            "Absent where a batch had none.",
            Unit.NUMBER,
            per_run(level("less_admission_carried_age_versions")),
            axis="versions",
            minimum=0,
            width=12,
        ),
    ),
)
