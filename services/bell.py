"""Wakes the loops of a run: whoever changes something rings, whoever waits looks again."""

import asyncio
from collections.abc import Callable


class Bell:
    """One bell for any number of waiters on one event loop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until this holds; it is asked again after every ring."""
        while not holds():
            self._rung.clear()
            await self._rung.wait()
