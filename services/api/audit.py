"""The audit log: a line for each call that changes something, or tried to, in the store and in a file beside it."""

import asyncio
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.control.records import AuditLine, Caller, StoreError

MAX_BODY_BYTES = 16 << 10
_RUN_PATH = re.compile(r"/v1/runs/([A-Za-z0-9][A-Za-z0-9._-]*)")

logger = logging.getLogger(__name__)


class AuditSink(Protocol):
    """Of the control plane, what the audit log needs."""

    async def record_audit(self, line: AuditLine) -> None:
        """Keep a line."""
        ...


class AuditLog:
    """Args:
    generation_of: the config generation of a run; None where it is unknown.
    redact: masks secrets in JSON data.
    file: one JSON object a line; None: none.
    clock: seconds since the epoch.
    """

    def __init__(
        self,
        sink: AuditSink,
        *,
        generation_of: Callable[[str], int | None],
        redact: Callable[[Any], Any],
        file: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._generation_of = generation_of
        self._redact = redact
        self._file = file
        self._clock = clock

    async def follow(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        """Let the app answer a request; whoever has the answer can find the line."""
        named = _RUN_PATH.match(scope["path"])
        run_id = named.group(1) if named else ""
        before = self._generation_of(run_id)
        is_written = False

        async def write(status: int, location: str = "") -> None:
            nonlocal is_written
            is_written = True
            made = _RUN_PATH.match(location)
            await self._write(scope, caller, run_id or (made.group(1) if made else ""), status, before)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_written:
                await write(message["status"], Headers(raw=message["headers"]).get("location", ""))
            await send(message)

        try:
            await app(scope, receive, noting)
        except Exception:
            if not is_written:
                await write(500)
            raise

    async def _write(self, scope: Scope, caller: Caller, run_id: str, status: int, before: int | None) -> None:
        body: bytes = scope["state"]["body"]
        line = AuditLine(
            at=self._clock(),
            caller=caller,
            request_id=scope["state"]["request_id"],
            method=scope["method"],
            path=self._redact(scope["path"]),
            run_id=self._redact(run_id),
            body_digest="sha256:" + hashlib.sha256(body).hexdigest(),
            body=self._shown(body),
            status=status,
            generation_before=before,
            generation_after=self._generation_of(run_id),
        )
        try:
            await self._sink.record_audit(line)
        except StoreError as error:
            # What was asked has been answered by now; that nobody could write it down is for whoever keeps the store.
            logger.error("request %s: no audit line could be stored: %s", line.request_id, error)
        if self._file is not None:
            await asyncio.to_thread(_append, self._file, line)

    def _shown(self, body: bytes) -> Mapping[str, Any]:
        if not body:
            return {}
        if len(body) > MAX_BODY_BYTES:
            return {"left_out_bytes": len(body)}
        try:
            data = json.loads(body)
            text = json.dumps(data if isinstance(data, dict) else {"body": data}, allow_nan=False)
        except (ValueError, RecursionError):
            return {"unreadable_bytes": len(body)}
        shown: Mapping[str, Any] = self._redact(json.loads(text))
        return shown


def _append(path: Path, line: AuditLine) -> None:
    text = json.dumps(asdict(line), allow_nan=False) + "\n"
    try:
        # Opened for each line, so that it can be rotated from outside; one write, so that lines do not mix.
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(number, text.encode())
        finally:
            os.close(number)
    except OSError as error:
        logger.error("the audit file cannot be written: %s (%s)", error.strerror, path)
