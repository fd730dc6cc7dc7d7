"""The metric catalogue's entries of transforms, segments, multipliers and advantages."""

from services.metrics.catalogue import MetricKind, StepMetric
from shaping import histograms
from shaping.metrics_group import OUTSIDE
from shaping.support import SegmentClass

_MEAN, _SUM = MetricKind.MEAN, MetricKind.SUM
_DISTRIBUTION = MetricKind.HISTOGRAM

# name, kind, help, formula, label values
TRANSFORMS = (
    StepMetric(
        "dot_cut_responses_share",
        _MEAN,
        "Responses that the transform dot cut; absent without it",
        "cut responses / responses of the groups that it saw",
    ),
)
SEGMENTS = (
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
ADVANTAGES = (
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
