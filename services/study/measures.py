"""What a study measures of a run, by name.

accuracy    held-out accuracy, as the run reports it: the share of decided answers that are right
mean@k      the share of a problem's k answers that are right, mean over problems
worst@k     all of k answers are right, drawn with replacement from the problem's own: share^k, mean over problems. So a
            problem with 3 of 4 right counts 0.32, not 0
all@k       all k answers are right, as they are: no draws
std@k       standard deviation (of the population) of the problem's k 0/1 scores, mean over problems: 0 where a problem
            is always solved or never, 0.5 where every second answer is right
tokens      response tokens sampled for training, dropped groups included
seconds     of training, evaluations included, from the first group asked for to the last finished step
anything else is a number that every step reports (docs/metrics.md): its mean over the last quarter of the steps

The @k ones are those of the last evaluation; several held-out sets count the same. Definitions: docs/evaluation.md.
"""

import re
from collections.abc import Mapping, Sequence

from shaping.evaluation import catalogue
from shaping.evaluation.catalogue import Metric, full_name

ACCURACY, TOKENS, SECONDS = "accuracy", "tokens", "seconds"
OF_EVALUATIONS: Mapping[str, Metric] = {
    "mean@k": catalogue.MEAN,
    "worst@k": catalogue.WORST_EXPECTED,
    "all@k": catalogue.ALL_RIGHT,
    "std@k": catalogue.STD,
}
DECIDING = (ACCURACY, "mean@k", "worst@k", "all@k")
"""More is better, and every evaluation has them."""

ENTROPY = "rollout_entropy_nats"
OVERLAPS = {
    "O_CC": "segments_overlap_correct_correct_share",
    "O_CW": "segments_overlap_correct_incorrect_share",
}
DEFAULT_MEASURES = (ACCURACY, "mean@k", "worst@k", "std@k", ENTROPY, *OVERLAPS.values(), TOKENS, SECONDS)
SHORT = {ENTROPY: "entropy, nats", **{name: short for short, name in OVERLAPS.items()}}
"""Headings of step metrics."""

_MEAN_OF_SET = re.compile(r"val-(?:core|aux)/(?P<set>.+)/acc/mean@(?P<k>\d+)")
_STEP_METRIC = re.compile(r"[a-z][a-z0-9_]*")


def check_measures(measures: Sequence[str]) -> None:
    """Refuse a list that cannot be measured.

    Raises:
        ValueError: empty, twice the same, a first one that evaluations do not have, or no name at all.
    """
    if not measures or measures[0] not in DECIDING:
        found = repr(measures[0]) if measures else "none"
        raise ValueError(f"the first of measures decides and must be one of {', '.join(DECIDING)}, got {found}")
    if len(set(measures)) < len(measures):
        raise ValueError(f"measures must differ, got {', '.join(measures)}")
    for each in measures:
        if each not in OF_EVALUATIONS and not _STEP_METRIC.fullmatch(each):
            known = ", ".join((ACCURACY, *OF_EVALUATIONS, TOKENS, SECONDS))
            raise ValueError(f"a measure must be one of {known} or the name of a step's metric, got {each!r}")


def evaluation_measures(accuracy: float, metrics: Mapping[str, float]) -> dict[str, float]:
    """The measures of one evaluation, sets counting the same; one that a set does not have is absent.

    Args:
        metrics: by full name, `val-core/<set>/acc/mean@4`.
    """
    sets = [(each["set"], int(each["k"])) for name in metrics if (each := _MEAN_OF_SET.fullmatch(name))]
    found = {ACCURACY: accuracy}
    for measure, metric in OF_EVALUATIONS.items():
        values = [metrics.get(_full_name(metric, name, k)) for name, k in sets]
        known = [value for value in values if value is not None]
        if sets and len(known) == len(sets):
            found[measure] = sum(known) / len(known)
    return found


def _full_name(metric: Metric, name: str, k: int) -> str:
    # Of one answer a problem there is nothing to draw: that it is right is all that is to be known.
    shown = catalogue.MEAN if k == 1 and metric is catalogue.WORST_EXPECTED else metric
    return full_name(shown.name(k), benchmark=name, num_samples=k)
