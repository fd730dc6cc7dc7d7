"""How many of the groups that are tried are kept, and whether the attempts allowed for a step will do.

Groups go in one by one as they end, warnings come out. Pure: no clock, and nothing of why a group was dropped.
"""

import math
from collections.abc import Mapping

from rollout.saved_state import saved_number

MIN_GROUPS = 16
HALF_LIFE_CHECKS = 4
LIKELY, CLEARED = 0.5, 0.25
REMEDY = (
    "raise run.max_attempts_per_step, choose prompts that are neither too hard nor too easy (rollout.selector), "
    "or raise rollout.group_size"
)
_WHERE = "keep rate"


class KeepRate:
    """The share of kept groups among those that ended lately, checked each time another step's worth has ended.

    A group counts half as much after four checks. A shortage is said when B / rate attempts, the mean of the negative
    binomial distribution, are more than are allowed, or when the chance that these keep fewer than B groups exceeds
    0.5; it is said again only after that chance has been below 0.25.

    Args:
        groups_per_step: B.
        max_attempts: groups that may be tried for one step.
    """

    def __init__(self, *, groups_per_step: int, max_attempts: int) -> None:
        self._groups_per_step = groups_per_step
        self._max_attempts = max_attempts
        self._groups_per_check = max(groups_per_step, MIN_GROUPS)
        self._decay = 0.5 ** (1 / (HALF_LIFE_CHECKS * self._groups_per_check))
        self._kept = 0.0
        self._ended = 0.0
        self._num_unchecked = 0
        self._is_short = False

    def allow(self, max_attempts: int) -> None:
        """Warn by another number of attempts from the next check on."""
        self._max_attempts = max_attempts

    @property
    def value(self) -> float | None:
        """The estimate; None before the first group has ended."""
        return self._kept / self._ended if self._ended else None

    def count(self, *, is_kept: bool) -> str | None:
        """A group has ended.

        Returns:
            A warning, where this group is the one after which a shortage is to be expected.
        """
        self._kept = self._kept * self._decay + is_kept
        self._ended = self._ended * self._decay + 1
        self._num_unchecked += 1
        if self._num_unchecked < self._groups_per_check:
            return None
        self._num_unchecked = 0
        return self._check(self._kept / self._ended)

    def _check(self, rate: float) -> str | None:
        wanted, tried = self._groups_per_step, self._max_attempts
        expected = wanted / rate if rate else math.inf
        chance = chance_of_fewer(wanted, tried, rate)
        was_short = self._is_short
        self._is_short = expected > tried or chance > (CLEARED if was_short else LIKELY)
        if was_short or not self._is_short:
            return None
        attempts = f"about {math.ceil(expected)}" if rate else "endless"
        return (
            f"{rate:.1%} of the groups are kept: a step of {wanted} groups needs {attempts} attempts, {tried} are "
            f"allowed, and with a chance of {chance:.0%} they keep fewer; {REMEDY}"
        )

    def state(self) -> dict[str, object]:
        """JSON data."""
        return {
            "kept": self._kept,
            "ended": self._ended,
            "num_unchecked": self._num_unchecked,
            "is_short": int(self._is_short),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on exactly as the estimate that saved the state would have.

        Raises:
            RecipeError: not such a state.
        """
        self._kept = saved_number(state, "kept", _WHERE)
        self._ended = saved_number(state, "ended", _WHERE)
        self._num_unchecked = int(saved_number(state, "num_unchecked", _WHERE))
        self._is_short = bool(saved_number(state, "is_short", _WHERE))


def chance_of_fewer(wanted: int, tried: int, rate: float) -> float:
    """The chance that fewer than `wanted` of `tried` independent groups are kept, each with probability `rate`."""
    if rate <= 0:
        return 1.0
    if rate >= 1:
        return float(tried < wanted)
    kept, dropped = math.log(rate), math.log1p(-rate)
    terms = (
        math.lgamma(tried + 1) - math.lgamma(k + 1) - math.lgamma(tried - k + 1) + k * kept + (tried - k) * dropped
        for k in range(min(wanted, tried + 1))
    )
    return min(1.0, math.fsum(map(math.exp, terms)))
