"""The metric catalogue's entries of the learner and the weight sync."""

from services.metrics.catalogue import MetricKind, StepMetric
from services.sync_phases import SyncPhase
from shaping import histograms

_MEAN, _MAX, _LEVEL, _SUM = MetricKind.MEAN, MetricKind.MAX, MetricKind.LEVEL, MetricKind.SUM
_DISTRIBUTION = MetricKind.HISTOGRAM

# name, kind, help, formula, label values
# Means are over the trained tokens of all updates of the step unless the formula says otherwise.
LEARNER = (
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
    StepMetric(
        "learner_update_entropy_nats",
        _MEAN,
        "Mean token entropy of an update that a regulariser saw before the gradient; absent without such a regulariser",
        "sum of entropies / trained tokens, before the update",
    ),
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
WEIGHT_SYNC = (
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
