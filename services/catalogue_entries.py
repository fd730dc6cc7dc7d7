"""The metric catalogue: every number of a run, once, with its meaning. A metric exists in code and here, or nowhere."""

from services.catalogue import Catalogue, Family, FamilyKind, MetricKind, StepMetric
from services.reports import PauseMode, RunState
from services.sync_phases import SyncPhase
from shaping.groups import DropReason, VerdictStatus
from shaping.support import SegmentClass

PHASES = ("wait_batch", "train", "weight_sync", "evaluation", "checkpoint", "other")
ROLES = ("rollout", "shaping", "learner", "other")
WORKER_STATES = ("starting", "ready", "failed", "stopped", "other")
STEP_SECONDS_BUCKETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

_MEAN, _MAX, _LEVEL, _SUM = MetricKind.MEAN, MetricKind.MAX, MetricKind.LEVEL, MetricKind.SUM
_COUNTER, _GAUGE = FamilyKind.COUNTER, FamilyKind.GAUGE
_HISTOGRAM, _INFO = FamilyKind.HISTOGRAM, FamilyKind.INFO

# name, kind, help, formula, label values
_ROLLOUTS = (
    StepMetric("reward_total_value", _MEAN, "Weighted reward", "sum of rewards / scored rollouts"),
    StepMetric("reward_{reward}_value", _MEAN, "One reward before its weight", "sum of that part / scored rollouts"),
    StepMetric("reward_correct_share", _MEAN, "Training accuracy", "correct rollouts / scored rollouts"),
    StepMetric(
        "verdict_{status}_rollouts",
        _SUM,
        "Rollouts by what the verifier said; timed_out, crashed and too_long are no verdict",
        "rollouts with that status",
        tuple(VerdictStatus),
    ),
    StepMetric("rollout_response_tokens", _MEAN, "Response length", "response tokens / scored rollouts"),
    StepMetric("rollout_response_max_tokens", _MAX, "Longest response", "largest response length"),
    StepMetric("rollout_truncated_share", _MEAN, "Responses cut at the limit", "cut rollouts / scored rollouts"),
    StepMetric("rollout_entropy_nats", _MEAN, "Token entropy in the sampler", "sum of entropies / response tokens"),
)
_GROUPS = (
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
_SEGMENTS = (
    StepMetric("segments_low_tokens_share", _MEAN, "Tokens at or below their entropy threshold", "low tokens / tokens"),
    StepMetric("segments_tie_tokens_share", _MEAN, "Tokens equal to their threshold", "tied tokens / tokens"),
    StepMetric("segments_covered_tokens_share", _MEAN, "Tokens in a low-entropy segment", "segment tokens / tokens"),
    StepMetric("segments_threshold_nats", _MEAN, "Entropy threshold", "sum of thresholds / non-empty rollouts"),
    StepMetric("segments_length_tokens", _MEAN, "Segment length", "segment tokens / segments"),
    StepMetric(
        "segments_{segment_class}_count", _SUM, "Low-entropy segments by class", "segments", tuple(SegmentClass)
    ),
    StepMetric(
        "segments_{segment_class}_tokens", _SUM, "Tokens in segments by class", "segment tokens", tuple(SegmentClass)
    ),
    StepMetric(
        "segments_overlap_{pair}_share",
        _MEAN,
        "Share of a rollout's segment tokens whose strings another rollout of its group has too",
        "mean over ordered pairs of rollouts of those two classes",
        ("correct_correct", "correct_incorrect", "incorrect_correct", "incorrect_incorrect"),
    ),
)
_ADVANTAGES = (
    StepMetric(
        "advantage_{stage}_abs_value", _MEAN, "Advantage size", "sum of |advantage| / tokens", ("base", "shaped")
    ),
    StepMetric("advantage_kept_mass_share", _MEAN, "Advantage mass after shaping", "sum |shaped| / sum |base|"),
    StepMetric("advantage_net_mass_share", _MEAN, "Signed advantage mass after shaping", "sum shaped / sum |base|"),
    StepMetric(
        "less_{multiplier}_tokens_share",
        _MEAN,
        "Tokens by LESS multiplier: 0, 1/N of N rollouts of the class, between, 1",
        "tokens with that multiplier / tokens",
        ("zero", "single", "partial", "full"),
    ),
    StepMetric("less_kept_mass_share", _MEAN, "Advantage mass that LESS leaves", "sum |after| / sum |before|"),
    StepMetric(
        "less_kept_mass_{verdict}_share",
        _MEAN,
        "Advantage mass that LESS leaves to rollouts with this verdict",
        "sum |after| / sum |before| of these rollouts",
        ("correct", "incorrect"),
        stem="less_kept_mass_by_verdict_share",
    ),
    StepMetric("less_net_mass_share", _MEAN, "Signed advantage mass that LESS leaves", "sum after / sum |before|"),
)
# Means are over the trained tokens of all updates of the step unless the formula says otherwise.
_LEARNER = (
    StepMetric("learner_staleness_versions", _MEAN, "Versions a trained group was behind", "sum over groups / groups"),
    StepMetric(
        "learner_skipped_steps_count", _SUM, "Steps whose loss or gradient was not finite", "1 for a skipped step"
    ),
    StepMetric("learner_loss", _MEAN, "Loss", "sum of all its terms"),
    StepMetric(
        "learner_{term}_loss",
        _MEAN,
        "One term of the loss, coefficient included",
        "mean over trained tokens",
        stem="learner_loss_term",
    ),
    StepMetric("learner_entropy_nats", _MEAN, "Token entropy in the learner", "sum of entropies / trained tokens"),
    StepMetric("learner_kl_nats", _MEAN, "KL to the reference, by the recipe's estimator", "sum / trained tokens"),
    StepMetric("learner_hint_nll_nats", _MEAN, "Negative log-likelihood of hint tokens", "sum / hint tokens"),
    StepMetric(
        "learner_clip_{side}_share",
        _MEAN,
        "Tokens whose importance ratio was clipped, by the bound it met",
        "clipped tokens / trained tokens",
        ("low", "high", "dual"),
    ),
    StepMetric("learner_importance_ratio_mean", _MEAN, "exp(policy - old log-prob)", "sum / trained tokens"),
    StepMetric("learner_importance_ratio_max", _MAX, "Largest importance ratio", "over trained tokens"),
    StepMetric(
        "learner_token_weight_mean", _MEAN, "Product of the weights of token plans and correction", "sum / tokens"
    ),
    StepMetric(
        "learner_{quantity}_difference_mean_nats",
        _MEAN,
        "Mismatch of sampler and learner on the same tokens, before the step's first update",
        "sum of |learner - sampler| / trained tokens",
        ("logprob", "entropy"),
    ),
    StepMetric(
        "learner_{quantity}_difference_max_nats",
        _MAX,
        "Largest mismatch of sampler and learner, before the step's first update",
        "largest |learner - sampler| over trained tokens",
        ("logprob", "entropy"),
    ),
    StepMetric(
        "learner_mismatch_kl_nats",
        _MEAN,
        "KL(sampler || learner) before the step's first update, estimator k3; d = learner - sampler log-prob",
        "sum of exp(d) - 1 - d / trained tokens of the first update",
    ),
    StepMetric(
        "learner_mismatch_kl_k1_nats",
        _MEAN,
        "KL(sampler || learner) before the step's first update, estimator k1, which may be negative",
        "sum of sampler - learner log-prob / trained tokens of the first update",
    ),
    StepMetric(
        "learner_effective_sample_share",
        _MEAN,
        "Effective sample size of the weights w = exp(learner - sampler log-prob); 1 where both agree",
        "(sum w)^2 / (n sum w^2) over the n trained tokens of the step's first update",
    ),
    StepMetric(
        "learner_correction_{effect}_share",
        _MEAN,
        "Tokens that the mismatch correction clamped, or left out",
        "such tokens / trained tokens",
        ("clamped", "masked"),
    ),
    StepMetric(
        "learner_correction_weight_mean",
        _MEAN,
        "Weight of the mismatch correction, 0 for a token that was left out",
        "sum / trained tokens",
    ),
    StepMetric("learner_grad_norm", _MEAN, "Global gradient norm before clipping", "mean over updates"),
    StepMetric("learner_learning_rate", _MEAN, "Learning rate", "mean over updates"),
    StepMetric("learner_tokens", _SUM, "Tokens in forward passes, padding left out", "tokens over updates"),
    StepMetric("learner_padding_share", _MEAN, "Padding in forward passes", "padding / (tokens + padding)"),
    StepMetric(
        "learner_rank_imbalance_share",
        _MEAN,
        "Time that ranks wait for one another in micro-batches, were it as their positions",
        "1 - sum of positions / (ranks x sum over micro-batches of the largest rank's)",
    ),
    StepMetric(
        "learner_{phase}_s",
        _MAX,
        "Time of a learner step by phase",
        "seconds of the slowest rank",
        ("recompute", "plan", "forward", "backward", "optimizer"),
    ),
)
_WEIGHT_SYNC = (
    StepMetric(
        "weight_sync_{phase}_s",
        _LEVEL,
        "Time of the step's weight sync by phase",
        "seconds, all attempts together",
        tuple(phase for phase in SyncPhase if phase is not SyncPhase.IDLE),
    ),
    StepMetric(
        "weight_sync_canary_difference_nats",
        _MAX,
        "Difference of engines and learner on the canary prompt right after the sync",
        "largest |learner - engine| log-prob over its tokens and all engines",
    ),
    StepMetric("weight_sync_aborts_count", _SUM, "Weight syncs that had to be tried again", "aborted attempts"),
    StepMetric("weight_sync_left_out_count", _SUM, "Engines that a weight sync went on without", "engines"),
    StepMetric(
        "weight_sync_checksum_mismatch_count", _SUM, "Engines whose own checksums were not the learner's", "refusals"
    ),
)

FAMILIES = (
    Family("less_build_info", _INFO, "Version of lessrl"),
    Family("less_run_info", _INFO, "Model, algorithm, shaping and recipe of the run"),
    Family("less_run_state", _GAUGE, "1 for the current state, 0 for the others", {"state": tuple(RunState)}),
    Family("less_run_step", _GAUGE, "Finished learner steps"),
    Family("less_run_target_steps", _GAUGE, "Learner steps that the run will make"),
    Family("less_run_last_step_timestamp_seconds", _GAUGE, "When the last step was reported, seconds since 1970"),
    Family("less_run_paused_seconds_total", _COUNTER, "Time spent paused", {"mode": tuple(PauseMode)}),
    Family(
        "less_run_pauses_total",
        _COUNTER,
        "Pauses that a user asked for, by how they ended",
        {"mode": tuple(PauseMode), "result": ("succeeded", "failed")},
    ),
    Family("less_policy_version", _GAUGE, "Policy version that every engine serves"),
    Family(
        "less_rollout_generated_tokens_total", _COUNTER, "Response tokens sampled, those of dropped groups included"
    ),
    Family("less_rollout_group_retries_total", _COUNTER, "Groups asked for again because their worker failed"),
    Family("less_step_seconds", _HISTOGRAM, "Wall time of a step", {}, STEP_SECONDS_BUCKETS),
    Family("less_step_phase_seconds_total", _COUNTER, "Wall time by phase; adds up to the steps", {"phase": PHASES}),
    Family("less_evaluation_accuracy_ratio", _GAUGE, "Held-out accuracy: correct / decided rollouts"),
    Family("less_evaluation_step", _GAUGE, "Step after which it was measured"),
    Family("less_evaluation_decided_answers", _GAUGE, "Held-out answers with a verdict"),
    Family("less_evaluation_response_tokens", _GAUGE, "Mean length of held-out responses"),
    Family("less_evaluation_seconds_total", _COUNTER, "Wall time of evaluations"),
    Family("less_workers", _GAUGE, "Workers by role and state", {"role": ROLES, "state": WORKER_STATES}),
    Family("less_metrics_unknown_total", _COUNTER, "Numbers left out because the catalogue does not know their name"),
    Family("less_metrics_unusable_total", _COUNTER, "Numbers left out: not finite, or a count below 0"),
)


def catalogue() -> Catalogue:
    """Every metric that a step may report."""
    return Catalogue((*_ROLLOUTS, *_GROUPS, *_SEGMENTS, *_ADVANTAGES, *_LEARNER, *_WEIGHT_SYNC))
