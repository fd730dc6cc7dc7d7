"""Keys: what they ask for, and how they are read. A change is asked for twice, looking and leaving once."""

import os
import select
import sys
import termios
import tty
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

QUIT = "quit"
ACTIONS = {"p": "pause", "r": "resume"}
YES, LEAVE = "y", frozenset({"q", "\x03"})


@dataclass(slots=True)
class Keys:
    """The keys that were pressed so far, as far as they matter.

    Args:
        asked: the action that waits to be confirmed; "" for none.
        said: an answer to the last key, for the screen.
    """

    asked: str = ""
    said: str = ""

    def press(self, key: str, allowed: Collection[str]) -> str:
        """What is to be done now: "quit", "pause", "resume", or "" for nothing.

        Args:
            allowed: actions that the run's state allows.
        """
        asked, self.asked, self.said = self.asked, "", ""
        if asked:
            if key.lower() == YES:
                return asked
            self.said = f"{asked}: left as it is"
            return ""
        if key in LEAVE:
            return QUIT
        action = ACTIONS.get(key.lower(), "")
        if action and action not in allowed:
            self.said = f"{action}: the run's state does not allow it"
        elif action:
            self.asked = action
        return ""

    @property
    def question(self) -> str:
        return f"{self.asked} this run? y/n" if self.asked else ""


@contextmanager
def read_keys() -> Iterator["KeyReader"]:
    """Keys as they are pressed, where standard input is a terminal; none at all otherwise."""
    if not sys.stdin.isatty():
        yield KeyReader(None)
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield KeyReader(number)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


class KeyReader:
    """Args:
    number: file descriptor of the terminal; None has no keys.
    """

    def __init__(self, number: int | None) -> None:
        self._number = number

    @property
    def has_keys(self) -> bool:
        return self._number is not None

    def read(self, seconds: float) -> str:
        """The next key, waited for so long; "" for none. An escape sequence is no key."""
        waiting, _, _ = select.select([] if self._number is None else [self._number], [], [], seconds)
        if not waiting or self._number is None:
            return ""
        pressed = os.read(self._number, 32).decode("utf-8", "replace")
        return "" if pressed.startswith("\x1b") else pressed[:1]
