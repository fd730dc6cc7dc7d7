"""What holds the requests of an engine that samples in this process, and what gives them up.

Several owners may hold them, for reasons of their own: nothing goes on before the last of them lets go.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, TypeVar

from shaping.errors import RolloutAborted

T = TypeVar("T")


class Owner(StrEnum):
    """Who may hold requests."""

    WEIGHTS = "weights"
    USER = "user"
    MEMORY = "memory"


class Request:
    """One request under way."""

    def __init__(self, gate: "RequestGate") -> None:
        self._gate = gate
        self._wake = asyncio.Event()
        self._work: asyncio.Future[Any] | None = None
        self._is_aborted = False

    async def until_open(self) -> None:
        """Wait while anybody holds requests.

        Raises:
            RolloutAborted: it was given up.
        """
        while True:
            self._check()
            if self._gate.is_open:
                return
            self._wake.clear()
            await self._wake.wait()

    async def unless_aborted(self, work: Awaitable[T]) -> T:
        """The result of this work, which ends when the request is given up.

        Raises:
            RolloutAborted: it was given up.
        """
        self._check()
        doing: asyncio.Future[T] = asyncio.ensure_future(work)
        self._work = doing
        try:
            return await doing
        except asyncio.CancelledError:
            self._check()
            raise
        finally:
            self._work = None

    def abort(self) -> None:
        self._is_aborted = True
        if self._work is not None:
            self._work.cancel()
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    def _check(self) -> None:
        if self._is_aborted:
            raise RolloutAborted("a request for rollouts was given up: the run is being stopped")


class RequestGate:
    """Open while nobody holds it; knows the requests under way."""

    def __init__(self) -> None:
        self._owners: set[Owner] = set()
        # In the order in which they came: so they are given up, and asked for again.
        self._requests: dict[Request, None] = {}

    @property
    def is_open(self) -> bool:
        return not self._owners

    @property
    def num_requests(self) -> int:
        return len(self._requests)

    @contextmanager
    def request(self) -> Iterator[Request]:
        """A request, from its beginning to its end."""
        request = Request(self)
        self._requests[request] = None
        try:
            yield request
        finally:
            self._requests.pop(request)

    def hold(self, owner: Owner) -> None:
        """Nothing goes on from now; twice is once."""
        self._owners.add(owner)

    def let_go(self, owner: Owner) -> None:
        """This owner has no objection any more."""
        self._owners.discard(owner)
        self._wake()

    def open_for_good(self) -> None:
        """Whatever anybody wanted: the engine ends, and a request that is held would wait for ever."""
        self._owners.clear()
        self._wake()

    def abort(self) -> int:
        """Give up every request under way; later ones are served. How many there were."""
        given_up = tuple(self._requests)
        for request in given_up:
            request.abort()
        return len(given_up)

    def _wake(self) -> None:
        if self.is_open:
            for request in self._requests:
                request.wake()
