"""STEER: tokens whose update would change the policy's entropy most are trained with a smaller weight.

The change of entropy that a step on token t brings is estimated as

    Omega = (A / pi_old) pi (1 - pi)^exponent (log pi + H),   pi in [1e-8, 1 - 1e-8], pi_old >= 1e-8

and the token's weight falls with |Omega|, from the scope's largest value m:

    exponential:  max(lambda_min, exp(ln(lambda_min) |Omega| / max(m, floor)))
    linear:       lambda_max - (lambda_max - lambda_min) (|Omega| - min) / (m - min); their middle where all are equal

The loss stays a mean over all trained tokens. lambda_min = 1 with the exponential map is the loss itself.
Source: STEER 2025 (arXiv:2510.10150) and its released code. The code computes pi (1 - pi) and calls it a square:
exponent 2 is what the name says. The paper's last version has no floor (0), the code 0.02, below which no token is
strongly damped. Needs policy and old log-probs and current token entropies. Variants: "recommended" takes the whole
update; "parity" is the release: each micro-batch. Deviation of both: at a sampling temperature other than 1, log pi is
at that temperature and H at 1, unless `rollout.sampling.entropy_source` is processed.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from learner.token_plans.base import Scope, TokenSignals, TokenWeights, Variant, scope_of
from shaping.signals import Signal

MIN_PROBABILITY = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    map: from |Omega| to weights.
    lambda_min: weight of the token that changes entropy most.
    lambda_max: weight of the one that changes it least, linear map alone.
    exponent: of 1 - pi.
    floor: least value of |Omega| that gets the weight lambda_min, exponential map alone; 0: none.
    scope: None is the whole update under "recommended" and each micro-batch under "parity".
    variant: see above.
    """

    map: Literal["exponential", "linear"] = "exponential"
    lambda_min: float = 0.8
    lambda_max: float = 1.2
    exponent: float = 1.0
    floor: float = 0.02
    scope: Scope | None = None
    variant: Variant = "recommended"

    def __post_init__(self) -> None:
        if not 0 < self.lambda_min <= 1:
            raise ValueError(f"lambda_min must be in (0, 1], got {self.lambda_min}")
        if self.lambda_max < self.lambda_min:
            raise ValueError(f"lambda_max must be >= lambda_min, got {self.lambda_max} and {self.lambda_min}")
        for name in ("exponent", "floor"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


NEEDS = frozenset({Signal.POLICY_LOGPROBS, Signal.POLICY_ENTROPIES, Signal.BEHAVIOR_LOGPROBS})
IDENTITY = {"kind": "", "options": {"lambda_min": 1.0}}


class Steer:
    """Weights between lambda_min and 1, or lambda_max with the linear map."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def scope(self) -> Scope:
        return scope_of(self._config.scope, self._config.variant)

    def plan(self, signals: TokenSignals) -> TokenWeights:
        sizes = entropy_changes(signals, self._config.exponent).abs()
        if len(sizes) == 0:
            return TokenWeights(weights=torch.ones_like(signals.advantages))
        weights = self._exponential(sizes) if self._config.map == "exponential" else self._linear(sizes)
        return TokenWeights(weights=weights.to(signals.advantages.dtype))

    def _exponential(self, sizes: torch.Tensor) -> torch.Tensor:
        largest = max(float(sizes.max()), self._config.floor)
        if largest == 0:
            return torch.ones_like(sizes)
        return (sizes * (math.log(self._config.lambda_min) / largest)).exp().clamp(self._config.lambda_min, 1.0)

    def _linear(self, sizes: torch.Tensor) -> torch.Tensor:
        low, high = self._config.lambda_min, self._config.lambda_max
        least, largest = float(sizes.min()), float(sizes.max())
        if largest == least:
            return torch.full_like(sizes, (low + high) / 2)
        return high - (sizes - least) * ((high - low) / (largest - least))


def entropy_changes(signals: TokenSignals, exponent: float) -> torch.Tensor:
    """Omega of each token, [N] float64: in float32, 1 - 1e-8 would be 1."""
    logprobs = signals.policy_logprobs.double()
    policy = logprobs.exp().clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    old = signals.old_logprobs.double().exp().clamp_min(MIN_PROBABILITY)
    spread = policy * (1 - policy) ** exponent
    return signals.advantages.double() / old * spread * (logprobs + signals.policy_entropies.double())


def build(config: Config) -> Steer:
    return Steer(config)
