"""What a prompt memory is."""

from typing import Protocol


class PromptMemory(Protocol):
    """Numbers remembered per prompt between its visits.

    Writes are idempotent: keyed by (prompt_id, visit), a repeated write replaces. `state` is plain JSON data and is
    part of the checkpoint.
    """

    def read(self, prompt_id: str) -> dict[str, float]: ...

    def write(self, prompt_id: str, visit: int, values: dict[str, float]) -> None: ...

    def state(self) -> dict[str, object]: ...

    def restore(self, state: dict[str, object]) -> None: ...
