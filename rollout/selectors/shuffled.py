"""Every prompt once an epoch, in an order of its own each epoch.

The order of epoch e is numpy's PCG64 permutation seeded with (seed, e): O(n) once an epoch (tens of milliseconds for a
million prompts), O(1) per prompt; the state is two numbers.
"""

from dataclasses import dataclass

import numpy as np

from rollout.saved_state import check_saved, saved_int
from rollout.selectors.base import GroupOutcome
from shaping.checks import IntArray
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """No options; the seed is the run's."""


class ShuffledSelector:
    """A PromptSelector that gives every prompt once an epoch."""

    def __init__(self, *, num_prompts: int, seed: int) -> None:
        self._num_prompts = num_prompts
        self._seed = seed
        self._epoch = 0
        self._position = 0
        self._order = epoch_order(num_prompts, seed=seed, epoch=0)

    def next_index(self) -> int:
        if self._position == self._num_prompts:
            self._epoch, self._position = self._epoch + 1, 0
            self._order = epoch_order(self._num_prompts, seed=self._seed, epoch=self._epoch)
        self._position += 1
        return int(self._order[self._position - 1])

    def observe(self, index: int, outcome: GroupOutcome) -> None:
        """The order does not depend on outcomes."""

    def state(self) -> dict[str, object]:
        return {
            "num_prompts": self._num_prompts,
            "seed": self._seed,
            "epoch": self._epoch,
            "position": self._position,
        }

    def restore(self, state: dict[str, object]) -> None:
        expected = {"num_prompts": self._num_prompts, "seed": self._seed}
        check_saved(state, expected=expected, where="shuffled selector")
        self._epoch = saved_int(state, "epoch", "shuffled selector")
        self._position = saved_int(state, "position", "shuffled selector")
        self._order = epoch_order(self._num_prompts, seed=self._seed, epoch=self._epoch)


def epoch_order(num_prompts: int, *, seed: int, epoch: int) -> IntArray:
    """[num_prompts] int32, a permutation of all indices that depends on nothing but the arguments."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
    return generator.permutation(num_prompts).astype(np.int32)


def build(config: Config, *, num_prompts: int, seed: int) -> ShuffledSelector:
    del config
    return ShuffledSelector(num_prompts=num_prompts, seed=seed)
