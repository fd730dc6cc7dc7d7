"""What a data source is: an ordered, countable set of prompts."""

from dataclasses import dataclass
from typing import Protocol

from shaping.errors import DataError
from shaping.records import Prompt


class RowFault(DataError):
    """Why no prompt can be made of a row: what must hold, and what was found instead."""

    def __init__(self, rule: str, found: str) -> None:
        self.rule = rule
        self.found = found
        super().__init__(rule, found)

    def __str__(self) -> str:
        return f"{self.rule}, {self.found}"


class RowUnwanted(RowFault):
    """A good row that a filter of the recipe leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRow:
    """A row of the data that no prompt was made of.

    Args:
        number: counts from 1, as the file's lines do.
        rule: what it does not fulfil; the same for every row that was left out for this.
        found: what it holds instead.
        is_filtered: a filter left it out; otherwise it is a bad row.
        source: which of a mixture's sources; "" where there is one.
    """

    number: int
    rule: str
    found: str
    is_filtered: bool = False
    source: str = ""

    @property
    def reason(self) -> str:
        return f"{self.rule}, {self.found}"


class PromptSource(Protocol):
    """Prompts by index; the same index always gives the same prompt, whose `position` is that index."""

    @property
    def has_solution_steps(self) -> bool:
        """Whether prompts have solution steps: all, but those that the source was told to keep without."""
        ...

    @property
    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Rows left out: by a filter, or bad ones where the source was told to leave them out."""
        ...

    def __len__(self) -> int: ...

    def prompt(self, index: int) -> Prompt: ...
