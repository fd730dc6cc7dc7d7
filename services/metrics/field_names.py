"""A step and an evaluation under the names that the field's tools show: verl's scheme, and `less/` for what is ours.

One table from names of the metric catalogue; what is not in it is named by rule, so that a new metric has a name too.
Where our quantity is not the one that verl has under a name, ours has a name of its own: mismatch is measured on
log-probs here and on probabilities there, throughput is that of one run and not of one GPU.
Source: verl, compute_data_metrics and compute_throughout_metrics (verl/trainer/ppo/metric_utils.py), and the metrics of
its actor and of its rollout correction.
"""

import math
from collections.abc import Mapping

from services.metrics.catalogue import Catalogue
from services.reports import EvaluationReport, StepReport
from shaping.histograms import Histogram

STEP_NAME = "training/global_step"
EVALUATION_STEP_NAME = "val/step"

FIELD_NAMES: Mapping[str, str] = {
    "reward_total_value": "critic/score/mean",
    "reward_correct_share": "critic/acc/mean",
    "reward_{reward}_value": "reward/{reward}/mean",
    "reward_value": "critic/score",
    "rollout_response_tokens": "response_length/mean",
    "rollout_response_max_tokens": "response_length/max",
    "rollout_truncated_share": "response_length/clip_ratio",
    "rollout_entropy_nats": "rollout/entropy",
    "groups_keep_share": "filter_groups/keep_rate",
    "groups_attempts_count": "filter_groups/attempts",
    "groups_dropped_{reason}_count": "filter_groups/dropped_{reason}",
    "advantage_shaped_mean_value": "critic/advantages/mean",
    "advantage_shaped_std_value": "critic/advantages/std",
    "advantage_shaped_abs_value": "critic/advantages/abs_mean",
    "advantage_value": "critic/advantages",
    "segments_threshold_nats": "less/entropy_threshold/mean",
    "learner_staleness_versions": "off_policy/staleness/mean",
    "learner_group_staleness_versions": "off_policy/staleness",
    "learner_loss": "actor/loss",
    "learner_policy_loss": "actor/pg_loss",
    "learner_kl_loss": "actor/kl_loss_scaled",
    "learner_entropy_nats": "actor/entropy",
    "learner_kl_nats": "actor/kl_loss",
    "learner_old_kl_nats": "actor/ppo_kl",
    "learner_clip_low_share": "actor/pg_clipfrac_below",
    "learner_clip_high_share": "actor/pg_clipfrac_above",
    "learner_clip_dual_share": "actor/pg_clipfrac_lower",
    "learner_importance_ratio_mean": "actor/ratio/mean",
    "learner_importance_ratio_max": "actor/ratio/max",
    "learner_importance_ratio": "actor/ratio",
    "learner_grad_norm": "actor/grad_norm",
    "learner_learning_rate": "actor/lr",
    "learner_logprob_difference_mean_nats": "training/rollout_logprobs_diff_mean",
    "learner_logprob_difference_max_nats": "training/rollout_logprobs_diff_max",
    "learner_entropy_difference_mean_nats": "training/rollout_entropy_diff_mean",
    "learner_entropy_difference_max_nats": "training/rollout_entropy_diff_max",
    "learner_mismatch_kl_k1_nats": "rollout_corr/kl",
    "learner_mismatch_kl_nats": "rollout_corr/k3_kl",
    "learner_effective_sample_share": "rollout_corr/rollout_is_eff_sample_size",
    "learner_correction_weight_mean": "rollout_corr/rollout_is_mean",
    "learner_correction_{effect}_share": "rollout_corr/{effect}_fraction",
    "learner_tokens": "perf/total_num_tokens",
    "learner_padding_tokens": "perf/padding_tokens",
    "learner_padding_share": "perf/padding_ratio",
    "learner_rank_imbalance_share": "perf/rank_imbalance_ratio",
    "learner_model_flops_utilization_share": "perf/mfu/actor",
    "learner_recompute_s": "timing_s/old_log_prob",
    "weight_sync_{phase}_s": "timing_s/update_weights_{phase}",
}
"""By the catalogue's name: a whole one, or one with its placeholder."""

PHASE_NAMES: Mapping[str, str] = {
    "wait_batch": "gen",
    "train": "update_actor",
    "weight_sync": "update_weights",
    "evaluation": "testing",
    "checkpoint": "save_checkpoint",
}
"""Phases of a step; any other keeps its name."""

_HEADINGS = {
    "advantage": "critic/advantages",
    "groups": "group",
    "learner": "actor",
    "segments": "less/segments",
    "shaping": "less/shaping",
    "weight_sync": "weight_sync",
}
"""Of names that are not in the table, by their first word or words; others are their own heading."""


class FieldNames:
    """Translates what a run reports.

    Args:
        catalogue: of the names that reports use.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[str, str] = {}

    def of_metric(self, name: str) -> str:
        """The field's name of a number, or a distribution, of a step report."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def of_step(self, report: StepReport) -> dict[str, float]:
        """All finite numbers of a step."""
        values = {self.of_metric(name): value for name, value in report.metrics.items()}
        sides = ("actor/pg_clipfrac_below", "actor/pg_clipfrac_above")
        if all(each in values for each in sides):
            values["actor/pg_clipfrac"] = sum(values[each] for each in sides)
        values |= {of_phase(phase): seconds for phase, seconds in report.phase_seconds.items()}
        values |= {
            STEP_NAME: report.step,
            "training/policy_version": report.policy_version,
            "training/elapsed_s": report.elapsed_seconds,
            "timing_s/step": report.step_seconds,
            "perf/time_per_step": report.step_seconds,
        }
        if report.step_seconds > 0:
            values["perf/response_tokens_per_s"] = report.num_response_tokens / report.step_seconds
        return _finite(values)

    def of_histograms(self, report: StepReport) -> dict[str, Histogram]:
        """All distributions of a step that hold a value."""
        return {self.of_metric(name): each for name, each in report.histograms.items() if each.count}

    def _find(self, name: str) -> str:
        entry = self._catalogue.find(name)
        if name in FIELD_NAMES:
            return FIELD_NAMES[name]
        if entry is not None and entry.metric.name in FIELD_NAMES:
            return FIELD_NAMES[entry.metric.name].replace(f"{{{entry.metric.label}}}", entry.value or "")
        if name.endswith("_s"):
            return f"timing_s/{name.removesuffix('_s')}"
        area = next((each for each in _HEADINGS if name.startswith(f"{each}_")), name.partition("_")[0])
        return f"{_HEADINGS.get(area, area)}/{name.removeprefix(f'{area}_')}"


def of_phase(phase: str) -> str:
    """The field's name of the time that a phase of a step took."""
    return f"timing_s/{PHASE_NAMES.get(phase, phase)}"


def of_evaluation(report: EvaluationReport) -> dict[str, float]:
    """All finite numbers of an evaluation, whose own names are the field's already."""
    return _finite(
        {
            **report.metrics,
            EVALUATION_STEP_NAME: report.step,
            "val/accuracy": report.accuracy,
            "val/num_answers": report.num_answers,
            "val/num_decided": report.num_decided,
            "val/response_length/mean": report.mean_response_tokens,
            "val/seconds": report.seconds,
        }
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """No tool of the field draws a number that is none, and one of them refuses it."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
