"""last_values: for each prompt, the values written at its latest visit.

A write for an earlier visit than the latest one changes nothing, a repeated write for the same visit replaces: replayed
and late groups leave the state as it would have been.
"""

from dataclasses import dataclass

from shaping.errors import RecordError
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """No options."""


class LastValues:
    def __init__(self) -> None:
        self._visits: dict[str, int] = {}
        self._values: dict[str, dict[str, float]] = {}

    def read(self, prompt_id: str) -> dict[str, float]:
        """The values of the latest visit, a copy; empty for a prompt never visited."""
        return dict(self._values.get(prompt_id, {}))

    def write(self, prompt_id: str, visit: int, values: dict[str, float]) -> None:
        if visit >= self._visits.get(prompt_id, visit):
            self._visits[prompt_id] = visit
            self._values[prompt_id] = dict(values)

    def state(self) -> dict[str, object]:
        return {
            prompt_id: {"visit": visit, "values": dict(self._values[prompt_id])}
            for prompt_id, visit in sorted(self._visits.items())
        }

    def restore(self, state: dict[str, object]) -> None:
        """Replace everything by a state that `state` gave.

        Raises:
            RecordError: an entry without visit or values; nothing is changed then.
        """
        visits: dict[str, int] = {}
        all_values: dict[str, dict[str, float]] = {}
        for prompt_id, entry in state.items():
            visit = entry.get("visit") if isinstance(entry, dict) else None
            values = entry.get("values") if isinstance(entry, dict) else None
            if not isinstance(visit, int) or not isinstance(values, dict):
                raise RecordError(f"a memory entry must hold `visit` and `values`, got {entry!r} (prompt {prompt_id})")
            visits[prompt_id] = visit
            all_values[prompt_id] = {str(name): float(value) for name, value in values.items()}
        self._visits, self._values = visits, all_values


def build(config: Config) -> LastValues:
    del config
    return LastValues()
