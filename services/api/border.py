"""What every request passes before a handler sees it: an id, a check of who asks, the body's limit.

Plain ASGI, so that it also guards what the framework answers by itself. The checks of Host and Origin are what keeps a
web page that a user visits from a loopback port: through DNS rebinding (as CVE-2026-27482 did with another dashboard),
or by a form that it posts.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import REQUEST_ID_HEADER, problem_response

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderConfig:
    """Args:
    allowed_hosts: names that the Host and Origin headers may hold, port aside; None means any.
    max_body_bytes: longer bodies are refused.
    """

    allowed_hosts: Collection[str] | None = LOOPBACK_NAMES
    max_body_bytes: int = 1 << 20


def border_of(host: str) -> BorderConfig:
    """The border of a server bound to `host`: loopback serves loopback names only, any other address any name."""
    return BorderConfig() if host in LOOPBACK_HOSTS else BorderConfig(allowed_hosts=None)


class _TooLong(Exception):
    pass


class _ClientLeft(Exception):
    pass


class Border:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, config: BorderConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        refused = self._refuse_stranger(scope, request_id)
        if refused is None:
            try:
                body = await self._read_body(receive)
            except _ClientLeft:
                return
            except _TooLong as error:
                refused = problem_response(request_id, 413, "body-too-large", str(error))
            else:
                await self._app(scope, _replay(body, receive), send_with_id)
                return
        await refused(scope, receive, send_with_id)

    def _refuse_stranger(self, scope: Scope, request_id: str) -> Response | None:
        allowed = self._config.allowed_hosts
        if allowed is None:
            return None
        headers = Headers(scope=scope)
        found = {"Host": headers.get("host", "")}
        if "origin" in headers:
            found["Origin"] = headers["origin"].partition("://")[2]
        for name, value in found.items():
            if _without_port(value) not in allowed:
                known = ", ".join(sorted(allowed))
                detail = f"the {name} header must name one of {known}, got {value!r}"
                return problem_response(request_id, 403, "forbidden", detail)
        return None

    async def _read_body(self, receive: Receive) -> bytes:
        """The whole body: half of one must not act as a shorter one."""
        parts: list[bytes] = []
        size, limit = 0, self._config.max_body_bytes
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _TooLong(f"a body must be at most {limit} bytes, found more")
            if not message.get("more_body", False):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    is_read = False

    async def replayed() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
