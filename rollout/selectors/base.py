"""What a prompt selector is: which prompt of the data set comes next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOutcome:
    """What the run saw of one prompt: reported once per group, trained or dropped.

    Args:
        remembered: what shaping wants remembered of the prompt, by name; for its memory, not for selectors.
    """

    prompt_id: str
    num_correct: int
    num_scored: int
    was_trained: bool
    remembered: Mapping[str, float] = field(default_factory=dict)


class PromptSelector(Protocol):
    """Order of prompts. All randomness comes from the seed; `state` is JSON data and part of the checkpoint.

    A file's `build(config, *, num_prompts, seed)` makes it for a source of that many prompts.
    """

    def next_index(self) -> int:
        """Index of the next prompt in the data set."""
        ...

    def observe(self, index: int, outcome: GroupOutcome) -> None:
        """A group of the prompt at `index`, which `next_index` gave, has ended."""
        ...

    def state(self) -> dict[str, object]: ...

    def restore(self, state: dict[str, object]) -> None:
        """Go on exactly as the selector that saved the state would have.

        Raises:
            RecipeError: the state was saved for other data or with another seed.
        """
        ...
