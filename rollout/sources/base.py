"""What a data source is: an ordered, countable set of prompts."""

from typing import Protocol

from shaping.records import Prompt


class PromptSource(Protocol):
    """Prompts by index; the same index always gives the same prompt."""

    has_solution_steps: bool

    def __len__(self) -> int: ...

    def prompt(self, index: int) -> Prompt: ...
