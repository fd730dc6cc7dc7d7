"""What every request passes before a handler sees it: an id, a check of who asks, limits of size and of time.

Plain ASGI, so that it also guards what the framework answers by itself. The checks of Host and Origin are what keeps a
web page that a user visits from a loopback port: through DNS rebinding (as CVE-2026-27482 did with another dashboard),
or by a form that it posts.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.limits import Limits
from services.api.problems import REQUEST_ID_HEADER, problem_response
from services.page.files import PAGE_POLICY

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OTHER_SITES = frozenset({"cross-site", "same-site"})
"""What browsers say of a page of another origin; another port of this machine is `same-site`, and its Origin has a name
that is allowed."""

logger = logging.getLogger(__name__)


class _TooLong(Exception):
    pass


class _ClientLeft(Exception):
    pass


class Border:
    """ASGI middleware.

    Args:
        allowed_hosts: names that the Host and Origin headers may hold, port aside.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Collection[str], limits: Limits) -> None:
        self._app = app
        self._allowed_hosts = frozenset(allowed_hosts)
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Passage(self._app, scope, receive, send, self._limits).pass_on(self._refuse_stranger(scope))

    def _refuse_stranger(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = Headers(scope=scope)
        size = sum(len(name) + len(value) for name, value in headers.raw)
        if size > self._limits.max_header_bytes:
            detail = f"the headers must have at most {self._limits.max_header_bytes} bytes, found {size}"
            return 431, "headers-too-large", detail
        found = {"Host": headers.get("host", "")}
        if "origin" in headers:
            found["Origin"] = headers["origin"].partition("://")[2]
        allowed = self._allowed_hosts | _connected_address(scope)
        for name, value in found.items():
            if _without_port(value) not in allowed:
                known = ", ".join(sorted(allowed))
                detail = f"the {name} header must name one of {known}, got {value!r}; name others with --allowed-host"
                return 403, "forbidden", detail
        site = headers.get("sec-fetch-site", "")
        if site in _OTHER_SITES and scope["method"] not in _SAFE_METHODS:
            detail = f"a web page may change something on its own server alone, found Sec-Fetch-Site: {site}"
            return 403, "forbidden", detail
        return None


class _Passage:
    """One request on its way."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._request_id = str(uuid.uuid4())
        self._has_begun = False
        self._is_stuck = False
        self._is_timed = False
        self._deadline = asyncio.timeout(limits.request_seconds)
        scope.setdefault("state", {}).update(request_id=self._request_id, body=b"")

    async def pass_on(self, stranger: tuple[int, str, str] | None) -> None:
        """Answer by the app, or by a problem of the border's own."""
        refused = stranger or await self._guarded()
        if refused is not None and not self._has_begun:
            with contextlib.suppress(TimeoutError):
                await problem_response(self._request_id, *refused)(self._scope, self._receive, self._pass_back)

    async def _guarded(self) -> tuple[int, str, str] | None:
        """Let the app answer; what is to be said in its place where it does not."""
        try:
            async with self._deadline:
                self._is_timed = True
                return await self._run()
        except _ClientLeft:
            return None
        except TimeoutError:
            if self._is_stuck:
                return None
            logger.warning("request %s took too long and was given up", self._request_id)
            return 504, "timed-out", f"an answer must begin within {self._limits.request_seconds:g} s, and did not"
        except Exception:
            if self._is_stuck:
                return None
            # The border of the process: whatever a handler raised is this request's alone.
            logger.exception("request %s failed", self._request_id)
            return 500, "internal", "the control plane failed; its log has the request's id"
        finally:
            self._is_timed = False

    async def _run(self) -> tuple[int, str, str] | None:
        try:
            body = await self._read_body()
        except _TooLong as error:
            return 413, "body-too-large", str(error)
        self._scope["state"]["body"] = body
        await self._app(self._scope, _replay(body, self._receive), self._pass_back)
        return None

    async def _pass_back(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            if self._is_timed and not self._deadline.expired():
                self._deadline.reschedule(None)
            self._add_headers(MutableHeaders(scope=message))
        # A client that takes nothing would hold its stream, and what it holds in memory, for ever.
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await self._send(message)
        except TimeoutError:
            self._is_stuck = True
            logger.info("request %s: dropped, the client takes nothing", self._request_id)
            raise

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers[REQUEST_ID_HEADER] = self._request_id
        headers.update(_SECURITY_HEADERS)
        path: str = self._scope["path"]
        headers["Content-Security-Policy"] = PAGE_POLICY if is_page(path) else DATA_POLICY
        headers.setdefault("Cache-Control", "no-cache" if is_page(path) else "no-store")

    async def _read_body(self) -> bytes:
        """The whole body: half of one must not act as a shorter one."""
        parts: list[bytes] = []
        size, limit = 0, self._limits.max_body_bytes
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise _ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _TooLong(f"a body must be at most {limit} bytes, found more")
            if not message.get("more_body", False):
                return b"".join(parts)


def is_page(path: str) -> bool:
    """Whether a path is one of the built-in page's files, which say nothing of any run."""
    return path == "/" or path == "/ui" or path.startswith("/ui/")


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
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _connected_address(scope: Scope) -> frozenset[str]:
    """The address that the client connected to: what is reached by a number was not reached through a name."""
    host = (scope.get("server") or ("", 0))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return frozenset()
    return frozenset({f"[{host}]" if address.version == 6 else host})
