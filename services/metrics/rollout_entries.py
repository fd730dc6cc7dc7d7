"""The metric catalogue's entries of rollouts, groups, hints and admission."""

from rollout.plans.base import MAX_MEASURED_ROUNDS
from services.metrics.catalogue import MetricKind, StepMetric
from shaping import histograms
from shaping.groups import DropReason, VerdictStatus
from shaping.records import StopReason

HINT_ROUNDS = tuple(str(number) for number in range(1, MAX_MEASURED_ROUNDS + 1))
"""Rounds of a group whose accuracy is reported, from 1."""

_MEAN, _MAX, _SUM = MetricKind.MEAN, MetricKind.MAX, MetricKind.SUM
_DISTRIBUTION = MetricKind.HISTOGRAM

# name, kind, help, formula, label values
ROLLOUTS = (
    StepMetric("reward_total_value", _MEAN, "Weighted reward", "sum of rewards / scored rollouts"),
    StepMetric(
        "reward_{reward}_value",
        _MEAN,
        "One reward before its weight",
        "sum of that part / scored rollouts",
        stem="reward_part_value",
    ),
    StepMetric(
        "reward_value", _DISTRIBUTION, "Weighted reward", "scored rollouts by reward", bounds=histograms.REWARDS
    ),
    StepMetric("reward_correct_share", _MEAN, "Training accuracy", "correct rollouts / scored rollouts"),
    StepMetric(
        "verdict_{status}_rollouts",
        _SUM,
        "Rollouts by what the verifier said; timed_out and crashed are no verdict",
        "rollouts with that status",
        tuple(VerdictStatus),
    ),
    StepMetric("rollout_response_tokens", _MEAN, "Response length", "response tokens / scored rollouts"),
    StepMetric("rollout_response_max_tokens", _MAX, "Longest response", "largest response length"),
    StepMetric("rollout_truncated_share", _MEAN, "Responses cut at the limit", "cut rollouts / scored rollouts"),
    StepMetric("rollout_entropy_nats", _MEAN, "Token entropy in the sampler", "sum of entropies / response tokens"),
    StepMetric(
        "rollout_{stop_reason}_rollouts",
        _SUM,
        "Responses by why they ended: eos, stop_string, or length, which is cut",
        "rollouts that were scored",
        tuple(StopReason),
        stem="rollouts_count",
    ),
    StepMetric(
        "rollout_{outcome}_response_tokens",
        _DISTRIBUTION,
        "Response length by verdict",
        "scored rollouts by length",
        ("correct", "incorrect"),
        stem="rollout_response_length_tokens",
        bounds=histograms.RESPONSE_TOKENS,
    ),
    StepMetric("rollout_prompt_tokens", _SUM, "Prompt tokens, once for each rollout", "sum over scored rollouts"),
    StepMetric(
        "rollout_discarded_{reason}_tokens",
        _SUM,
        "Response tokens of groups that were not trained",
        "response tokens by the group's drop reason",
        tuple(DropReason),
    ),
    StepMetric(
        "rollout_group_s",
        _DISTRIBUTION,
        "Time of a group from its admission to its last response",
        "trained groups by seconds",
        bounds=histograms.SECONDS,
    ),
    StepMetric(
        "queue_{queue}_wait_s",
        _DISTRIBUTION,
        "Time that a group waited: for a shaping actor and in it, or shaped for the learner",
        "trained groups by seconds",
        ("shaping", "learner"),
        bounds=histograms.SECONDS,
    ),
    StepMetric(
        "reward_group_s",
        _DISTRIBUTION,
        "Time that the verifiers of a group took",
        "shaped groups by seconds",
        stem="reward_s",
        bounds=histograms.SHORT_SECONDS,
    ),
    StepMetric(
        "verdict_worker_restarts_count", _SUM, "Verifier processes that were killed or died and began anew", "processes"
    ),
)
GROUPS = (
    StepMetric(
        "groups_{outcome}_count",
        _SUM,
        "Groups by how many of their rollouts are correct",
        "scored groups with that outcome",
        ("all_correct", "mixed", "all_incorrect"),
    ),
    StepMetric("groups_trained_count", _SUM, "Groups that were trained", "groups"),
    StepMetric(
        "groups_dropped_{reason}_count", _SUM, "Groups that were not trained", "groups by reason", tuple(DropReason)
    ),
    StepMetric("groups_attempts_count", _SUM, "Groups that ended since the last step's batch", "kept + dropped groups"),
    StepMetric("groups_keep_share", _MEAN, "Groups kept of those that ended", "kept groups / groups_attempts_count"),
    StepMetric("groups_without_signal_count", _SUM, "Groups whose every advantage is 0", "shaped groups"),
)
HINTS = (
    StepMetric(
        "hint_round_{round}_accuracy",
        _MEAN,
        "Accuracy of a round of a group that is sampled in several rounds; absent for a round that no group had",
        "correct rollouts / decided rollouts of that round",
        HINT_ROUNDS,
    ),
    StepMetric(
        "hint_rate_mean", _MEAN, "Hint rate: 0 is no hint, 1 the whole solution", "sum of rates / rollouts asked for"
    ),
    StepMetric(
        "hint_fit_error",
        _MEAN,
        "Distance of a prompt's accuracy curve from the accuracies that its last fit saw",
        "sum over groups of the root of the mean squared difference / groups with a fit",
    ),
    StepMetric(
        "hint_{end}_share",
        _MEAN,
        "Rounds whose rate the curve put beyond an end: below no hint, or above the longest that leaves a step to make",
        "such rounds / rounds with a fit",
        ("none", "most"),
        stem="hint_clipped_share",
    ),
    StepMetric(
        "hint_{outcome}_groups_share",
        _MEAN,
        "Groups of several rounds whose rollouts, all rounds together, are all wrong or all correct",
        "such groups / groups of several rounds with a verdict",
        ("all_wrong", "all_correct"),
        stem="hint_groups_share",
    ),
    StepMetric(
        "hint_{ending}_groups_count",
        _SUM,
        "Groups whose next round would have been sampled by other weights: closed with the rounds they had, or begun "
        "again",
        "groups",
        ("closed_early", "begun_again"),
        stem="hint_mixed_version_groups_count",
    ),
)
ADMISSION = (
    StepMetric(
        "admission_surplus_groups_count",
        MetricKind.LEVEL,
        "Kept groups that a step left over for the next",
        "groups in the buffer right after the step's batch was taken",
        stem="admission_surplus_groups",
    ),
    StepMetric(
        "admission_carried_age_versions_mean",
        _MEAN,
        "Versions that trained groups of an earlier version were behind; absent without such a group",
        "sum over these groups / these groups",
        stem="admission_carried_age_versions",
    ),
)
