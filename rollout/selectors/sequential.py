"""The order of the data set, again and again."""

from dataclasses import dataclass

from rollout.saved_state import check_saved, saved_int
from rollout.selectors.base import GroupOutcome
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """No options."""


class SequentialSelector:
    """A PromptSelector that counts; O(1) in time and memory."""

    def __init__(self, num_prompts: int) -> None:
        self._num_prompts = num_prompts
        self._epoch = 0
        self._position = 0

    def next_index(self) -> int:
        if self._position == self._num_prompts:
            self._epoch, self._position = self._epoch + 1, 0
        self._position += 1
        return self._position - 1

    def observe(self, index: int, outcome: GroupOutcome) -> None:
        """The order does not depend on outcomes."""

    def state(self) -> dict[str, object]:
        return {"num_prompts": self._num_prompts, "epoch": self._epoch, "position": self._position}

    def restore(self, state: dict[str, object]) -> None:
        check_saved(state, expected={"num_prompts": self._num_prompts}, where="sequential selector")
        self._epoch = saved_int(state, "epoch", "sequential selector")
        self._position = saved_int(state, "position", "sequential selector")


def build(config: Config, *, num_prompts: int, seed: int) -> SequentialSelector:
    del config, seed
    return SequentialSelector(num_prompts)
