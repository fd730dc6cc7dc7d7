"""The one source of a step's timing: consecutive marks, so that the phases add up to the step by construction."""

from typing import Protocol


class Clock(Protocol):
    """Seconds that only rise; `time.monotonic` in a run, a number in a test."""

    def __call__(self) -> float: ...


class Stopwatch:
    """Divides time in named phases and laps; stands still while paused."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock()
        self._paused_at: float | None = None
        self._phases: dict[str, float] = {}
        self._elapsed = 0.0

    def start(self) -> None:
        """Time begins now; what came before, and is in no lap yet, belongs to no phase."""
        self._elapsed -= sum(self._phases.values())
        self._phases = {}
        self._last = self._clock()
        if self._paused_at is not None:
            self._paused_at = self._last

    def go_on_from(self, elapsed: float) -> None:
        """Count on from the seconds that an earlier process marked."""
        self._elapsed = elapsed

    def mark(self, phase: str) -> None:
        """Everything since the last mark was `phase`."""
        seconds = self._since_last()
        self._phases[phase] = self._phases.get(phase, 0.0) + seconds
        self._elapsed += seconds

    def lap(self) -> tuple[dict[str, float], float]:
        """Phases since the last lap, and their sum; starts a new lap."""
        phases, self._phases = self._phases, {}
        return phases, sum(phases.values())

    def pause(self) -> None:
        """Time stands still from now on; a second pause changes nothing."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Time goes on."""
        if self._paused_at is not None:
            self._last += self._clock() - self._paused_at
            self._paused_at = None

    @property
    def elapsed(self) -> float:
        """Seconds marked so far, over all laps."""
        return self._elapsed

    def _since_last(self) -> float:
        now = self._clock() if self._paused_at is None else self._paused_at
        seconds = now - self._last
        self._last = now
        return seconds
