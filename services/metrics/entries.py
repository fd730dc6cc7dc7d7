"""The metric catalogue: every number of a step, once, with its meaning. A metric exists in code and here, or nowhere.

What Prometheus is told beside a step's numbers is in families.py.
"""

from services.metrics.catalogue import Catalogue, MetricKind, StepMetric
from services.sync_phases import SyncPhase
from shaping import histograms
from shaping.groups import DropReason, VerdictStatus
from shaping.metrics_group import OUTSIDE
from shaping.records import StopReason
from shaping.support import SegmentClass

_MEAN, _MAX, _LEVEL, _SUM = MetricKind.MEAN, MetricKind.MAX, MetricKind.LEVEL, MetricKind.SUM
_DISTRIBUTION = MetricKind.HISTOGRAM

# name, kind, help, formula, label values
_ROLLOUTS = (
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
    StepMetric(
        "segments_{pair}_overlap_share",
        _DISTRIBUTION,
        "Overlap of a group, see less_segments_overlap_ratio",
        "groups by their mean over ordered pairs of rollouts of those two classes",
        ("correct_correct", "correct_incorrect", "incorrect_correct", "incorrect_incorrect"),
        stem="segment_overlap_share",
        bounds=histograms.SHARES,
    ),
    StepMetric(
        "segments_{segment_class}_length_tokens",
        _DISTRIBUTION,
        "Segment length by class",
        "segments by length",
        tuple(SegmentClass),
        stem="segment_length_tokens",
        bounds=histograms.SEGMENT_TOKENS,
    ),
    StepMetric(
        "shaping_token_entropy_nats",
        _DISTRIBUTION,
        "Token entropy in the sampler",
        "response tokens by entropy",
        bounds=histograms.ENTROPY_NATS,
    ),
    StepMetric(
        "shaping_{entropy_class}_tokens",
        _SUM,
        "Tokens at or below their entropy threshold, and above",
        "response tokens",
        ("low", "high"),
    ),
    StepMetric(
        "shaping_{segment_class}_multiplier",
        _DISTRIBUTION,
        "Multiplier of a token, all shapers together, by the class of its segment",
        "response tokens by multiplier",
        (*SegmentClass, OUTSIDE),
        bounds=histograms.MULTIPLIERS,
    ),
    StepMetric(
        "shaping_{direction}_tokens",
        _SUM,
        "Tokens whose advantage shaping raised, lowered or left",
        "response tokens with a multiplier above, below or equal to 1",
        ("up", "down", "unchanged"),
        stem="shaping_scaled_tokens",
    ),
    StepMetric(
        "shaping_{phase}_s",
        _DISTRIBUTION,
        "Time that shaping a group took: segments and their support, advantages and multipliers",
        "shaped groups by seconds",
        ("segment", "scale"),
        stem="shaping_group_s",
        bounds=histograms.SHORT_SECONDS,
    ),
)
_ADVANTAGES = (
    StepMetric(
        "advantage_{stage}_abs_value", _MEAN, "Advantage size", "sum of |advantage| / tokens", ("base", "shaped")
    ),
    StepMetric(
        "advantage_{stage}_mean_value",
        _MEAN,
        "Signed advantage",
        "sum of advantages / tokens",
        ("base", "shaped"),
        stem="advantage_mean_value",
    ),
    StepMetric(
        "advantage_{stage}_std_value",
        _MEAN,
        "Standard deviation of the advantage",
        "root of the mean squared distance from the mean, over tokens",
        ("base", "shaped"),
        stem="advantage_std_value",
    ),
    StepMetric(
        "advantage_value",
        _DISTRIBUTION,
        "Shaped advantage of a token",
        "response tokens by advantage",
        bounds=histograms.ADVANTAGES,
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
    StepMetric(
        "learner_staleness_versions",
        _MEAN,
        "Versions a trained group was behind",
        "sum over groups / groups",
        stem="learner_staleness_mean_versions",
    ),
    StepMetric(
        "learner_group_staleness_versions",
        _DISTRIBUTION,
        "Versions a trained group was behind",
        "trained groups by versions",
        stem="learner_staleness_versions",
        bounds=histograms.VERSIONS,
    ),
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
    StepMetric(
        "learner_old_kl_nats",
        _MEAN,
        "KL(old || policy), estimator k1, which may be negative",
        "sum of old - policy log-prob / trained tokens",
    ),
    StepMetric(
        "learner_importance_ratio",
        _DISTRIBUTION,
        "exp(policy - old log-prob) of a token",
        "trained tokens by ratio",
        bounds=histograms.IMPORTANCE_RATIOS,
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
    StepMetric("learner_padding_tokens", _SUM, "Padding in forward passes", "tokens over updates"),
    StepMetric(
        "learner_model_flops_utilization_share",
        _MEAN,
        "Model FLOP/s of a learner step beside the peak of its devices; absent where the peak is not known",
        "6 x parameters (4 with LoRA) x learner_tokens / (step seconds x ranks x peak), attention left out",
    ),
    StepMetric(
        "learner_memory_{kind}_bytes",
        _MAX,
        "Device memory of a rank; absent on CPU",
        "largest over ranks at the step's end; peak: since the step began",
        ("allocated", "reserved", "peak"),
    ),
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
        bounds=histograms.SECONDS,
    ),
)
_WEIGHT_SYNC = (
    StepMetric(
        "weight_sync_{phase}_s",
        _LEVEL,
        "Time of the step's weight sync by phase",
        "seconds, all attempts together",
        tuple(phase for phase in SyncPhase if phase is not SyncPhase.IDLE),
        bounds=histograms.SECONDS,
    ),
    StepMetric(
        "weight_sync_bytes",
        _SUM,
        "Weights that engines took after a step; those of an engine that came back between steps are left out",
        "bytes of the layout x engines that took them",
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


def catalogue() -> Catalogue:
    """Every metric that a step may report."""
    return Catalogue((*_ROLLOUTS, *_GROUPS, *_SEGMENTS, *_ADVANTAGES, *_LEARNER, *_WEIGHT_SYNC))
