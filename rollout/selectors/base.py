"""What a prompt selector is: which prompt of the data set comes next."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutcome:
    """What the run saw of one prompt: reported once per group, trained or dropped."""

    prompt_id: str
    num_correct: int
    num_scored: int
    was_trained: bool


class PromptSelector(Protocol):
    """Order of prompts. All randomness comes from the seed; `state` is JSON data and part of the checkpoint."""

    def next_index(self) -> int:
        """Index of the next prompt in the data set."""
        ...

    def observe(self, outcome: GroupOutcome) -> None: ...

    def state(self) -> dict[str, object]: ...

    def restore(self, state: dict[str, object]) -> None: ...
