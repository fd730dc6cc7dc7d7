"""The gate behind the border: who calls, how often, and a line in the audit log for what changes something."""

import math
from collections.abc import Awaitable, Callable, Iterable

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.audit import AuditLog
from services.api.auth import Doorkeeper, Role, is_loopback
from services.api.border import is_page
from services.api.limits import Buckets
from services.api.problems import Problem, problem_response
from services.api.tickets import Tickets
from services.control.records import Caller

INTERNAL_PREFIX = "/internal/"
"""Paths of the processes of runs: they need a token like all others, but report as often as they step."""
STREAM_SUFFIX = "/stream"
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LOOPBACK_PATHS = frozenset({"/metrics", "/version", "/docs", "/openapi.json"})
_UNCOUNTED_PATHS = frozenset({"/metrics", "/version"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """ASGI middleware, inside of the border.

    Args:
        learn: hears every token that opens the gate, so that it is masked where somebody writes it: a control plane
            itself keeps digests alone.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        doorkeeper: Doorkeeper,
        buckets: Buckets,
        tickets: Tickets,
        audit: AuditLog,
        learn: Callable[[Iterable[str]], None],
    ) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._buckets = buckets
        self._tickets = tickets
        self._audit = audit
        self._learn = learn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, address = scope["path"], (scope.get("client") or ("", 0))[0]
        caller = self._caller(scope, path, address)
        scope["state"]["caller"] = caller
        app = self._refusal(scope, path, caller, address) or self._app
        is_recorded = scope["method"] not in _READS and not path.startswith(INTERNAL_PREFIX)
        if not is_recorded:
            await app(scope, receive, send)
            return
        known = caller or Caller(name="", role="", address=address)
        await self._audit.follow(app, scope, receive, send, known)

    def _caller(self, scope: Scope, path: str, address: str) -> Caller | None:
        authorization = Headers(scope=scope).get("authorization", "")
        caller = self._doorkeeper.caller(authorization, address)
        if caller is not None and self._doorkeeper.asks:
            self._learn([authorization.partition(" ")[2]])
        if caller is None and path.endswith(STREAM_SUFFIX):
            caller = self._tickets.redeem(QueryParams(scope["query_string"]).get("ticket", ""))
        return caller

    def _refusal(self, scope: Scope, path: str, caller: Caller | None, address: str) -> ASGIApp | None:
        """The answer where the request goes no further."""
        is_open = path in _OPEN_PATHS or is_page(path)
        request_id = scope["state"]["request_id"]
        if not is_open and path not in _UNCOUNTED_PATHS and not (caller and path.startswith(INTERNAL_PREFIX)):
            name = caller.name if caller else f"?{address}"
            wait = self._buckets.take(name, is_write=scope["method"] not in _READS)
            if wait:
                detail = f"{name if caller else 'this address'} asks too often; ask again in {wait:.1f} s"
                headers = {"Retry-After": str(math.ceil(wait))}
                return problem_response(request_id, 429, "rate-limited", detail, headers=headers)
        if caller is not None or is_open or (path in _LOOPBACK_PATHS and is_loopback(address)):
            return None
        detail = "this path needs a token, found none that is known; send Authorization: Bearer"
        headers = {"WWW-Authenticate": 'Bearer realm="lessrl"'}
        return problem_response(request_id, 401, "unauthorized", detail, headers=headers)


def needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who must have a role.

    Raises:
        Problem: 403.
    """

    async def caller_of(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if not Role(caller.role).may(role):
            raise Problem(403, "forbidden", f"this call needs the role {role}, {caller.name} has {caller.role}")
        return caller

    return caller_of
