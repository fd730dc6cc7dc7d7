"""The metric catalogue: every number of a step, once, with its meaning. A metric exists in code and here, or nowhere.

Its entries are in the files beside this one, by the part of the run that they are of. What Prometheus is told beside a
step's numbers is in families.py.
"""

from services.metrics.catalogue import Catalogue
from services.metrics.learner_entries import LEARNER, WEIGHT_SYNC
from services.metrics.rollout_entries import ADMISSION, GROUPS, HINTS, ROLLOUTS
from services.metrics.shaping_entries import ADVANTAGES, SEGMENTS, TRANSFORMS


def catalogue() -> Catalogue:
    """Every metric that a step may report."""
    return Catalogue(
        (*ROLLOUTS, *GROUPS, *HINTS, *ADMISSION, *TRANSFORMS, *SEGMENTS, *ADVANTAGES, *LEARNER, *WEIGHT_SYNC)
    )
