"""One blocking call in a thread of its own, for a process that must stay free to answer. Knows nothing of the call."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from shaping.errors import ChannelBroken

T = TypeVar("T")


class Background(Generic[T]):
    """Runs from the start; whoever drops it drops what it will bring."""

    def __init__(self, work: Callable[[], T], *, name: str) -> None:
        self.result: T | None = None
        self._failure: Exception | None = None
        # A daemon, since a call that waits for a peer must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    def progress(self) -> dict[str, Any]:
        """Plain data: `is_running`, `failure` ("" for none), and `is_broken` where a channel broke under the call."""
        return {
            "is_running": self._thread.is_alive(),
            "failure": "" if self._failure is None else _one_line(self._failure),
            "is_broken": isinstance(self._failure, ChannelBroken),
        }

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self.result = work()
        except Exception as error:  # a thread's border: told by `progress`
            self._failure = error


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
