"""What a data source is: an ordered, countable set of prompts."""

from dataclasses import dataclass
from typing import Protocol

from shaping.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRow:
    """A row of the data that no prompt was made of. `number` counts from 1, as the file's lines do."""

    number: int
    reason: str


class PromptSource(Protocol):
    """Prompts by index; the same index always gives the same prompt, whose `position` is that index."""

    @property
    def has_solution_steps(self) -> bool:
        """Whether every prompt has solution steps."""
        ...

    @property
    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Rows left out, where the source was told to leave bad ones out."""
        ...

    def __len__(self) -> int: ...

    def prompt(self, index: int) -> Prompt: ...
