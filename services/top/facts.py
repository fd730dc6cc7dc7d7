"""What the screen shows, out of the control plane's answers: numbers and words, without layout, terminal or HTTP."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from services.client.http import JsonObject
from services.client.runs import TERMINAL
from services.progress_facts import class_shares
from shaping.support import SegmentClass

CURVES = ("evaluation_accuracy", "reward_correct_share", "reward_total_value", "rollout_entropy_nats")
ACCURACY = CURVES[0]
MAX_POINTS = 400
MAX_EVENTS = 200
# The screen shows steps as curves, and a pause on its way in a line of its own.
UNSHOWN_EVENTS = frozenset({"step_completed", "operation_updated"})


class TopFacts:
    """The run as far as it is known; `take_...` every answer.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, *, run_id: str, url: str, clock: Callable[[], float]) -> None:
        self.run_id = run_id
        self.url = url
        self.status: JsonObject = {}
        self.workers: tuple[JsonObject, ...] = ()
        self.events: deque[JsonObject] = deque(maxlen=MAX_EVENTS)
        self.said = ""
        self.question = ""
        self._curves: dict[str, deque[float]] = {name: deque(maxlen=MAX_POINTS) for name in CURVES}
        self._last_steps = dict.fromkeys(CURVES, -1)
        self._clock = clock
        self._heard_at = clock()
        self._status_at = clock()
        self._is_away = False

    def take_series(self, series: JsonObject) -> None:
        """Curves up to now, of GET .../series; a null is a step without that number."""
        steps = series.get("step") or []
        for name, values in (series.get("series") or {}).items():
            for step, value in zip(steps, values, strict=False):
                self._add(name, step, value)

    def take_status(self, status: JsonObject) -> None:
        """An answer of GET .../status."""
        self.status, self._is_away = status, False
        self._heard_at = self._status_at = self._clock()
        step, metrics = int(status.get("step") or 0), status.get("metrics") or {}
        for name in CURVES[1:]:
            self._add(name, step, metrics.get(name))
        held_out = status.get("evaluation") or {}
        self._add(ACCURACY, held_out.get("step"), held_out.get("accuracy_ratio"))

    def take_event(self, event: JsonObject) -> None:
        if event.get("type") not in UNSHOWN_EVENTS:
            self.events.append(event)

    def take_silence(self) -> None:
        """The control plane did not answer."""
        self._is_away = True

    def _add(self, name: str, step: Any, value: Any) -> None:
        if name in self._curves and step is not None and value is not None and step > self._last_steps[name]:
            self._curves[name].append(float(value))
            self._last_steps[name] = step

    @property
    def is_known(self) -> bool:
        return bool(self.status)

    @property
    def state(self) -> str:
        return str(self.status.get("state", "unknown"))

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    @property
    def allowed_actions(self) -> tuple[str, ...]:
        return tuple(self.status.get("allowed_actions") or ())

    @property
    def away_seconds(self) -> float | None:
        """How long the control plane has not answered; None while it does."""
        return self._clock() - self._heard_at if self._is_away else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, counted down since the answer that said so; None while nobody can say."""
        said = self.status.get("eta_seconds")
        return None if said is None else max(0.0, float(said) - (self._clock() - self._status_at))

    def curve(self, name: str) -> list[float]:
        return list(self._curves[name])

    def metric(self, name: str) -> float | None:
        """Of the last step; None where nobody measured it."""
        value = (self.status.get("metrics") or {}).get(name)
        return None if value is None else float(value)

    @property
    def shares(self) -> dict[SegmentClass, float] | None:
        """Segment tokens of the last step by class."""
        return class_shares(lambda each: self.metric(f"segments_{each}_tokens"))

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of the last step, the longest phase first; empty before it."""
        found = self.status.get("phase_seconds") or {}
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))
