"""Tickets for streams: a browser's EventSource cannot send a header, and a token must not be in an address."""

import secrets
from collections import OrderedDict
from collections.abc import Callable

from services.api.auth import digest_of
from services.control.records import Caller

TICKET_SECONDS = 60
MAX_TICKETS = 1024


class Tickets:
    """Each opens one stream, once, for whoever it was given to.

    Args:
        clock: seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._callers: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def give(self, caller: Caller) -> str:
        """A new one; the oldest of too many is void."""
        ticket = secrets.token_urlsafe(32)
        self._callers[digest_of(ticket)] = (self._clock() + TICKET_SECONDS, caller)
        while len(self._callers) > MAX_TICKETS:
            self._callers.popitem(last=False)
        return ticket

    def redeem(self, ticket: str) -> Caller | None:
        """Whose it is; none where it is unknown, used or too old."""
        # By digest: how long a dictionary takes to miss says nothing of a ticket.
        expires_at, caller = self._callers.pop(digest_of(ticket), (0.0, None))
        return caller if self._clock() < expires_at else None
