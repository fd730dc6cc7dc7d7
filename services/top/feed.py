"""Asks the control plane in the background, and hands its answers to the facts: once a second, and as events come."""

import threading
from collections.abc import Callable
from typing import Self

from services.client.errors import CommandFailed, Refused, Unreachable
from services.client.http import ControlClient
from services.client.waiting import RealTime, follow
from services.top.facts import CURVES, MAX_POINTS, TopFacts

POLL_SECONDS = 1.0
WORKERS_EVERY = 5
END_SECONDS = 0.2


class Feed:
    """Use as a context: inside it, two threads keep the facts fresh.

    Args:
        lock: held while the facts change.
        poll_seconds: between two looks at the run's status.
    """

    def __init__(
        self,
        client: ControlClient,
        facts: TopFacts,
        lock: threading.Lock,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._client = client
        self._facts = facts
        self._lock = lock
        self._poll_seconds = poll_seconds
        self._path = f"/v1/runs/{facts.run_id}"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._poll, self._listen)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A stream that is silent is read until its next sign of life: the thread ends with the process at the latest.
        for each in self._threads:
            each.join(END_SECONDS)

    def load(self) -> None:
        """Once, before anything is shown: that the run exists, its curves and workers so far.

        Raises:
            CommandFailed: there is no such run, or no control plane answers.
        """
        status = self._client.get(f"{self._path}/status")
        # The past comes first: a curve takes no step that is behind its last one.
        self._load_curves()
        with self._lock:
            self._facts.take_status(status)
        self._load_workers()

    def act(self, action: str) -> None:
        """Ask for a pause or a resume in the background; its answer is said on the screen."""
        threading.Thread(target=self._act, args=(action,), daemon=True).start()

    def _act(self, action: str) -> None:
        try:
            answer = self._client.call("POST", f"{self._path}/{action}", {"reason": "lessrl top"})
            operation = answer.get("operation") or {}
            said = f"{action}: {operation.get('phase', 'nothing had to be done')}"
        except CommandFailed as error:
            said = f"{action}: {error}"
        with self._lock:
            self._facts.said = said

    def _poll(self) -> None:
        rounds = 0
        while not self._ended.wait(self._poll_seconds):
            rounds += 1
            self._ask(self._load_status)
            if rounds % WORKERS_EVERY == 0:
                self._ask(self._load_workers)

    def _ask(self, load: Callable[[], None]) -> None:
        try:
            load()
        except Unreachable:
            with self._lock:
                self._facts.take_silence()
        except Refused as error:
            with self._lock:
                self._facts.take_silence()
                self._facts.said = str(error)

    def _load_status(self) -> None:
        status = self._client.get(f"{self._path}/status")
        with self._lock:
            self._facts.take_status(status)

    def _load_workers(self) -> None:
        workers = tuple(self._client.pages(f"{self._path}/workers"))
        with self._lock:
            self._facts.workers = workers

    def _load_curves(self) -> None:
        try:
            there = self._client.get(f"{self._path}/series/names").get("names") or []
            names = [name for name in CURVES if name in there]
            series = self._client.get(f"{self._path}/series", names=names, max_points=MAX_POINTS) if names else {}
        except Refused:
            # A run without a step, or whose directory is elsewhere, has none: they begin now.
            return
        with self._lock:
            self._facts.take_series(series)

    def load_events(self) -> int:
        """Events so far.

        Returns:
            The last one's id; 0 where there is none.
        """
        last = 0
        for event in self._client.pages(f"{self._path}/events", cursor="after"):
            last = int(event.get("id", last))
            with self._lock:
                self._facts.take_event(event)
        return last

    def _listen(self) -> None:
        """Events so far, then those that come."""
        try:
            last = self.load_events()
            time = RealTime(sleep=self._rest)
            for came in follow(self._client, f"{self._path}/events/stream", after=str(last), time=time):
                if self._ended.is_set():
                    return
                if came is not None and isinstance(came.data, dict) and "type" in came.data:
                    with self._lock:
                        self._facts.take_event(came.data)
        except CommandFailed as error:
            with self._lock:
                self._facts.said = f"no events: {error}"

    def _rest(self, seconds: float) -> None:
        self._ended.wait(seconds)
