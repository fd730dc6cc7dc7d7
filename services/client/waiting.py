"""Waits for a run or an operation, and follows a stream, through the times that the control plane is away."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from services.client.errors import EXIT_TIMED_OUT, CommandFailed, Refused, Unreachable
from services.client.events import ServerEvent
from services.client.http import ControlClient, JsonObject

POLL_SECONDS = 1.0
MAX_AWAY_SECONDS = 120.0
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 10.0

_AWAY_STATUSES = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class RealTime:
    """Seconds that only rise, and a way to let them pass; a test gives its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True, kw_only=True)
class Poll:
    """Asks again and again.

    Args:
        what: is waited for, in words.
        timeout_seconds: after which the wait ends unmet; None waits for good.
        max_away_seconds: of no answer in a row, after the first one; None bears any.
        every_seconds: between two questions.
    """

    what: str
    timeout_seconds: float | None = None
    max_away_seconds: float | None = MAX_AWAY_SECONDS
    every_seconds: float = POLL_SECONDS
    time: RealTime = field(default_factory=RealTime)

    def until(
        self,
        ask: Callable[[], JsonObject],
        is_met: Callable[[JsonObject], bool],
        *,
        on_answer: Callable[[JsonObject], None] = lambda _: None,
        on_away: Callable[[CommandFailed], None] = lambda _: None,
    ) -> JsonObject:
        """The first answer that meets the condition.

        Raises:
            CommandFailed: the time is over (exit code 5); or no answer for too long, or none at all; or a refusal.
        """
        began = self.time.now()
        heard_at: float | None = None
        while True:
            try:
                answer = ask()
            except (Unreachable, Refused) as error:
                if heard_at is None or not _is_away(error) or self._is_too_long(heard_at):
                    raise
                on_away(error)
            else:
                heard_at = self.time.now()
                on_answer(answer)
                if is_met(answer):
                    return answer
            pause = self.every_seconds
            if self.timeout_seconds is not None:
                left = began + self.timeout_seconds - self.time.now()
                if left <= 0:
                    raise CommandFailed(
                        f"waited {self.timeout_seconds:g} s in vain for {self.what}", exit_code=EXIT_TIMED_OUT
                    )
                pause = min(pause, left)
            self.time.sleep(pause)

    def _is_too_long(self, heard_at: float) -> bool:
        return self.max_away_seconds is not None and self.time.now() - heard_at > self.max_away_seconds


def follow(
    client: ControlClient,
    path: str,
    *,
    after: str = "",
    on_away: Callable[[CommandFailed], None] = lambda _: None,
    time: RealTime | None = None,
    **query: Any,
) -> Iterator[ServerEvent | None]:
    """Events of a stream, connected again where it breaks; each event once.

    None comes at each sign of life and each break, so that the reader may look whether to go on.

    Args:
        after: the last event that is known.
    Raises:
        Refused: the stream does not exist, or may not be read.
        Unreachable: it could not be opened even once.
    """
    time = time or RealTime()
    retry, has_opened = FIRST_RETRY_SECONDS, False
    while True:
        try:
            with client.stream(path, after=after, **query) as events:
                has_opened = True
                for event in events:
                    retry = FIRST_RETRY_SECONDS
                    if event is not None:
                        after = event.event_id or after
                    yield event
        except (Unreachable, Refused) as error:
            if not has_opened or not _is_away(error):
                raise
            on_away(error)
        yield None
        time.sleep(retry)
        retry = min(MAX_RETRY_SECONDS, 2 * retry)


def _is_away(error: CommandFailed) -> bool:
    """Whether it may be over in a moment: no answer, or one that says so."""
    return error.status in _AWAY_STATUSES if isinstance(error, Refused) else isinstance(error, Unreachable)
