"""A pause on its way to `paused`, in one line that is redrawn: which phase it is in, and how far that is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.commands.screen import safe
from services.commands.words import dig

BAR_WIDTH = 16

_FIRST = {"drain": "draining", "abort": "aborting", "freeze": "freezing"}
_LAST = ("shaping_tail", "finishing_step", "saving", "releasing")


class PauseView:
    """The phases of an operation; `take` each answer of the control plane, then draw it."""

    def __init__(self) -> None:
        self._operation: Any = {}
        self._most_groups = 0

    def take(self, operation: Any) -> None:
        self._operation = operation
        self._most_groups = max(self._most_groups, int(dig(operation, "inflight_groups") or 0))

    @property
    def phases(self) -> list[str]:
        """Phases that this pause goes through, in order."""
        request = dig(self._operation, "request") or {}
        first = _FIRST.get(str(request.get("mode", "drain")), "draining")
        asked = [first, *_LAST]
        if request.get("checkpoint") is False:
            asked.remove("saving")
        if request.get("release", "none") == "none":
            asked.remove("releasing")
        now = str(dig(self._operation, "phase") or "")
        return asked if now in (*asked, "done") else [now, *asked]

    @property
    def share(self) -> float | None:
        """Of the phase, 0 to 1; None where nobody can say."""
        said = dig(self._operation, "progress")
        if said is not None:
            return float(said)
        left = int(dig(self._operation, "inflight_groups") or 0)
        return 1.0 - left / self._most_groups if self._most_groups and self._is_counting else None

    @property
    def _is_counting(self) -> bool:
        return dig(self._operation, "phase") in _FIRST.values()

    def __rich__(self) -> Text:
        return self.line

    @property
    def line(self) -> Text:
        """Phases behind in green, the one under way with its bar, the rest dim."""
        phases, now = self.phases, str(dig(self._operation, "phase") or "")
        at = len(phases) if now == "done" else phases.index(now)
        line = Text(overflow="ellipsis", no_wrap=True)
        for index, phase in enumerate(phases):
            name = safe(phase.replace("_", " "))
            if index:
                line.append(" > ", style="bright_black")
            if index < at:
                line.append(name, style="green")
            elif index > at:
                line.append(name, style="bright_black")
            else:
                line.append(name, style="bold yellow").append_text(self._bar())
        return line

    def _bar(self) -> Text:
        share, bar = self.share, Text()
        if share is None:
            return bar.append(" ...")
        full = round(share * BAR_WIDTH)
        bar.append(" ").append("━" * full, style="yellow").append("━" * (BAR_WIDTH - full), style="bright_black")
        if self._is_counting and self._most_groups:
            done = self._most_groups - int(dig(self._operation, "inflight_groups") or 0)
            return bar.append(f" {done}/{self._most_groups} groups")
        return bar.append(f" {share:.0%}")


@contextmanager
def shown_pause(*, is_quiet: bool) -> Iterator[PauseView]:
    """The view on standard error while inside, where that is a terminal."""
    view, console = PauseView(), Console(stderr=True)
    if is_quiet or not console.is_terminal:
        yield view
        return
    with Live(view, console=console, refresh_per_second=4, transient=True):
        yield view
