"""How long each part of a simulated run takes: distributions, and numbers drawn from them once.

Nothing here knows the run: a draw is asked for by number, and the same number always gives the same draw.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

NUM_DRAWS = 1 << 14


class Times(Protocol):
    """Something that positive numbers are drawn from."""

    def draw(self, rng: random.Random) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution of positive numbers by its mean.

    Args:
        kind: "uniform" is between 0 and twice the mean.
        spread: of "lognormal": standard deviation of the logarithm.
    """

    kind: Literal["constant", "uniform", "exponential", "lognormal"]
    mean: float
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.mean < math.inf or not 0 <= self.spread < math.inf:
            raise ValueError(f"mean and spread must be finite and >= 0, got {self.mean} and {self.spread}")

    def draw(self, rng: random.Random) -> float:
        if self.kind == "constant" or not self.mean:
            return self.mean
        if self.kind == "uniform":
            return rng.uniform(0, 2 * self.mean)
        if self.kind == "exponential":
            return rng.expovariate(1 / self.mean)
        return rng.lognormvariate(math.log(self.mean) - self.spread**2 / 2, self.spread)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was measured in a run, each value as likely as the others."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or min(self.values) < 0:
            raise ValueError(f"recorded values must be >= 0, and there must be one, got {self.values}")

    def draw(self, rng: random.Random) -> float:
        return rng.choice(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTimes:
    """What the roles of a simulated run take.

    Args:
        response_tokens: of one response, before the recipe's limit cuts it.
        prompt_tokens: of every prompt.
        decode_token_s: of one response, whatever else its engine decodes; a group takes as long as its longest one.
        shaping_s: of one group.
        train_token_s: of the whole learner group, per token of its forward passes, prompts included.
        transfer_s: from learner to engines, while these go on decoding.
        commit_s: in which an engine is paused.
        keep_share: chance of a group to be kept.
    """

    response_tokens: Times
    prompt_tokens: int
    decode_token_s: float
    shaping_s: Times
    train_token_s: Times
    transfer_s: Times
    commit_s: Times
    keep_share: float

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1:
            raise ValueError(f"prompt_tokens must be >= 1, got {self.prompt_tokens}")
        if not 0 < self.decode_token_s < math.inf:
            raise ValueError(f"decode_token_s must be finite and > 0, got {self.decode_token_s}")
        if not 0 <= self.keep_share <= 1:
            raise ValueError(f"keep_share must be in [0, 1], got {self.keep_share}")


class Draws:
    """Numbers drawn once, so that asking for one costs nothing beside what is simulated."""

    def __init__(self, times: Times, name: str) -> None:
        rng = random.Random(name)
        self._values = tuple(times.draw(rng) for _ in range(NUM_DRAWS))

    def at(self, number: int) -> float:
        return self._values[number % NUM_DRAWS]

    def in_turn(self) -> Iterator[float]:
        return itertools.cycle(self._values)


class ResponseLengths:
    """Lengths of the responses of a group, by a number of the group's own.

    Args:
        max_tokens: longest; the longer ones are cut.
    """

    def __init__(self, times: Times, max_tokens: int) -> None:
        rng = random.Random("responses")
        cut = [min(max_tokens, max(1, round(times.draw(rng)))) for _ in range(NUM_DRAWS)]
        self._values = (*cut, *cut)
        self._max_responses = NUM_DRAWS

    def at(self, number: int, num_responses: int) -> tuple[int, ...]:
        first = number % self._max_responses
        return self._values[first : first + num_responses]
