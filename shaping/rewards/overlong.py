"""overlong: takes from responses that come near the length limit. Says nothing of correctness.

Formula, with limit M (`rollout.sampling.max_response_tokens`), buffer B and length t: 0 for t <= M - B, then
(M - B - t) / B, which is -1 at the limit, and -1 beyond it. The buffer is `buffer_tokens`, or where that is 0
`buffer_share` of the limit, in whole tokens and at least one. Where no limit is known, nothing is taken.
Signals: none. The length is of the response alone, without a hint before it.
Source: soft overlong punishment of DAPO (arXiv:2503.14476, section 3.4), with a limit of 20480 and a buffer of 4096
tokens there: the share 0.2.
Deviations: none known; `weight` of the reward is the factor that verl's recipes have.
"""

from dataclasses import dataclass, field

from shaping.groups import Verdict, VerdictStatus
from shaping.rewards.base import RewardRequest, RewardResult
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    buffer_share: of the limit, in (0, 1].
    buffer_tokens: in place of the share; 0 takes the share.
    """

    buffer_share: float = 0.2
    buffer_tokens: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.buffer_share <= 1:
            raise ValueError(f"buffer_share must be in (0, 1], got {self.buffer_share}")
        if self.buffer_tokens < 0:
            raise ValueError(f"buffer_tokens must be >= 0, got {self.buffer_tokens}")


@dataclass(frozen=True, slots=True)
class Overlong:
    config: Config
    decides_correctness: bool = field(default=False, init=False)

    def score(self, request: RewardRequest) -> RewardResult:
        value = penalty(request.num_tokens, request.max_response_tokens, self.config)
        status = VerdictStatus.WRONG if value else VerdictStatus.CORRECT
        return RewardResult(value=value, verdict=Verdict(status=status))


def penalty(num_tokens: int, limit: int, config: Config) -> float:
    """In [-1, 0]; `limit` 0 is no limit."""
    if not limit:
        return 0.0
    buffer = config.buffer_tokens or max(1, round(config.buffer_share * limit))
    return min(0.0, max(-1.0, (limit - buffer - num_tokens) / buffer))


def build(config: Config) -> Overlong:
    return Overlong(config)
