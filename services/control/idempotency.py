"""Idempotency keys of creating calls: one call with one key is made once, however often its client asks.

The answer is kept in the same change as what the call did. Kept is what names it (an id), and who asks again is shown
that thing as it is then.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.control.machine import Refused
from services.control.records import Caller, KeptAnswer
from services.control.storage import Storage

MAX_KEY_CHARACTERS = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedCall:
    """A creating call as its client made it.

    Args:
        key: that the client chose.
        body: JSON data; two calls are one call where all of these agree.
    """

    key: str
    caller: Caller
    path: str
    body: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of path and body."""
        text = json.dumps([self.path, self.body], sort_keys=True, default=str)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A call that may be made now, for the first time."""

    call: KeyedCall
    at: float

    def answer(self, status: int, body: Mapping[str, Any]) -> KeptAnswer:
        """What to keep, to be written with what the call did."""
        return KeptAnswer(
            key=self.call.key,
            caller=self.call.caller.name,
            path=self.call.path,
            body_digest=self.call.digest,
            created_at=self.at,
            status=status,
            body=dict(body),
        )


class IdempotencyKeys:
    """Which calls were made and which are under way.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, storage: Storage, *, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._clock = clock
        self._under_way: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def claim(self, call: KeyedCall) -> AsyncIterator[Claim | KeptAnswer | Refused]:
        """Make a call once: a claim for who is first, the answer for who asks again.

        Raises:
            StoreError: nobody can tell whether it was made.
        """
        if not 0 < len(call.key) <= MAX_KEY_CHARACTERS:
            detail = f"an idempotency key must have 1 to {MAX_KEY_CHARACTERS} characters, got {len(call.key)}"
            yield Refused(slug="validation", detail=detail)
            return
        name = (call.caller.name, call.key)
        if name in self._under_way:
            yield Refused(slug="idempotency-key-in-use", detail="the call with this idempotency key is under way")
            return
        self._under_way.add(name)
        try:
            kept = await self._storage.read(lambda store: store.answer(call.key, call.caller.name))
            if kept is None:
                yield Claim(call=call, at=self._clock())
            elif kept.body_digest != call.digest:
                detail = "this idempotency key was used for another call; choose a new one for each"
                yield Refused(slug="idempotency-key-reused", detail=detail)
            else:
                yield kept
        finally:
            self._under_way.discard(name)
