"""Prefers prompts that the policy solves sometimes: those whose remembered accuracy lies in a band.

A group teaches nothing when all its rollouts are right or all are wrong. Per prompt an accuracy is remembered as

    m <- a                                 first outcome with a verdict
    m <- (1 - new_weight) * m + new_weight * a    later ones

where a is the share of correct rollouts of the group. Order: prompts never given come first, shuffled; then the prompt
with low <= m <= high whose last outcome is oldest, and at a rate of `explore_rate`, or when the band is empty, the one
outside the band whose last outcome is oldest. A prompt under way is given again only when no other is left.

Source: PRIME (arXiv:2502.01456) keeps groups whose accuracy is in [0.2, 0.8]. Deviation: PRIME samples first and drops
afterwards; here the memory of earlier visits decides before sampling, and nothing is dropped.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from rollout.saved_state import check_saved, saved_int, saved_ints
from rollout.selectors.base import GroupOutcome
from rollout.selectors.shuffled import epoch_order
from shaping.errors import RecipeError
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset({Signal.VERDICTS})

_WHERE = "success_band selector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The band, and how the memory moves.

    Args:
        low: smallest remembered accuracy of the band.
        high: largest one.
        new_weight: share of the newest accuracy in the remembered one.
        explore_rate: share of choices from outside the band, so that a prompt can come back into it.
    """

    low: float = 0.2
    high: float = 0.8
    new_weight: float = 0.5
    explore_rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high must hold 0 <= low < high <= 1, got {self.low} and {self.high}")
        if not 0 < self.new_weight <= 1:
            raise ValueError(f"new_weight must be in (0, 1], got {self.new_weight}")
        if not 0 < self.explore_rate <= 1:
            raise ValueError(f"explore_rate must be in (0, 1], got {self.explore_rate}")


class SuccessBandSelector:
    """A PromptSelector with three queues of prompts, oldest first: in the band, outside it, and under way.

    O(1) per call after one permutation at the start; the state holds a few numbers per prompt met so far.
    """

    def __init__(self, config: Config, *, num_prompts: int, seed: int) -> None:
        self._config = config
        self._num_prompts = num_prompts
        self._seed = seed
        self._first_order = epoch_order(num_prompts, seed=seed, epoch=0)
        self._num_first = 0
        self._num_choices = 0
        self._accuracy: dict[int, float] = {}
        self._in_band = _queue(())
        self._outside = _queue(())
        self._under_way = _queue(())

    def next_index(self) -> int:
        index = self._choose()
        self._under_way[index] = None
        return index

    def observe(self, index: int, outcome: GroupOutcome) -> None:
        """Move the remembered accuracy. Without any verdict it stays, and a prompt that has none counts as outside."""
        if outcome.num_scored:
            accuracy = outcome.num_correct / outcome.num_scored
            weight = self._config.new_weight if index in self._accuracy else 1.0
            self._accuracy[index] = (1 - weight) * self._accuracy.get(index, 0.0) + weight * accuracy
        for queue in (self._under_way, self._in_band, self._outside):
            queue.pop(index, None)
        remembered = self._accuracy.get(index)
        is_in_band = remembered is not None and self._config.low <= remembered <= self._config.high
        (self._in_band if is_in_band else self._outside)[index] = None

    def state(self) -> dict[str, object]:
        return {
            "num_prompts": self._num_prompts,
            "seed": self._seed,
            "num_first": self._num_first,
            "num_choices": self._num_choices,
            "accuracy": [[index, accuracy] for index, accuracy in self._accuracy.items()],
            "in_band": list(self._in_band),
            "outside": list(self._outside),
            "under_way": list(self._under_way),
        }

    def restore(self, state: dict[str, object]) -> None:
        check_saved(state, expected={"num_prompts": self._num_prompts, "seed": self._seed}, where=_WHERE)
        self._num_first = saved_int(state, "num_first", _WHERE)
        self._num_choices = saved_int(state, "num_choices", _WHERE)
        self._accuracy = _saved_accuracy(state.get("accuracy"))
        self._in_band = _queue(saved_ints(state, "in_band", _WHERE))
        self._outside = _queue(saved_ints(state, "outside", _WHERE))
        self._under_way = _queue(saved_ints(state, "under_way", _WHERE))

    def _choose(self) -> int:
        if self._num_first < self._num_prompts:
            self._num_first += 1
            return int(self._first_order[self._num_first - 1])
        # A stream of its own for each choice: nothing but a count has to be saved.
        explores = Random(f"{self._seed}/{self._num_choices}").random() < self._config.explore_rate
        self._num_choices += 1
        preferred = (self._outside, self._in_band) if explores else (self._in_band, self._outside)
        queue = next(queue for queue in (*preferred, self._under_way) if queue)
        return queue.popitem(last=False)[0]


def _queue(indices: Iterable[int]) -> OrderedDict[int, None]:
    return OrderedDict.fromkeys(indices)


def _saved_accuracy(rows: object) -> dict[int, float]:
    if not isinstance(rows, list):
        raise RecipeError(f"a saved accuracy must be a list of pairs, got {type(rows).__name__} ({_WHERE})")
    return {int(index): float(accuracy) for index, accuracy in rows}


def build(config: Config, *, num_prompts: int, seed: int) -> SuccessBandSelector:
    return SuccessBandSelector(config, num_prompts=num_prompts, seed=seed)
