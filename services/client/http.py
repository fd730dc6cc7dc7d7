"""Asks a control plane over HTTP: one call in, JSON or a typed error out. Decides nothing and prints nothing."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from services.client.endpoint import Endpoint
from services.client.errors import Refused, Unreachable
from services.client.events import ServerEvent, read_events

TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 5.0
# The server says something every 15 s.
SILENCE_SECONDS = 45.0
PAGE_SIZE = 500
MAX_SENDS = 3
# A page of a long list is one call, and calls are counted by the second.
MAX_TURNED_AWAY, MAX_WAIT_SECONDS = 5, 10.0

_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

JsonObject = dict[str, Any]
Query = Mapping[str, Any]


class _Bearer(httpx.Auth):
    """Sends the token. As an object of its own, so that a .netrc is never asked."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class ControlClient:
    """A connection to one control plane; use it as a context. May be used from several threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint
        self._sleep = sleep
        host = urlsplit(endpoint.url).hostname or ""
        self._http = httpx.Client(
            base_url=endpoint.url,
            auth=_Bearer(endpoint.token),
            timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
            # A proxy of the environment has nothing to do with this machine's own ports.
            trust_env=host not in _LOOPBACK_HOSTS,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> JsonObject:
        """One object.

        Raises:
            Refused: the control plane's answer is a problem.
            Unreachable: there is no answer.
        """
        return self._object(self._send("GET", path, query=query))

    def answer(self, path: str, **query: Any) -> tuple[JsonObject, str]:
        """One object and its ETag, "" without one. Raises as `get`."""
        response = self._send("GET", path, query=query)
        return self._object(response), response.headers.get("ETag", "")

    def text(self, path: str, **query: Any) -> str:
        """A body that is no JSON object. Raises as `get`."""
        return self._send("GET", path, query=query).text

    def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, repeat: bool = True
    ) -> JsonObject:
        """Ask for a change; an empty answer is an empty object. Raises as `get`.

        Args:
            repeat: whether asking twice is as asking once, so that a broken connection is tried again.
        """
        sends = MAX_SENDS if repeat else 1
        for number in range(1, sends + 1):
            try:
                response = self._send(method, path, body=body, headers=headers)
            except Unreachable:
                if number == sends:
                    raise
            else:
                return self._object(response) if response.content else {}
        raise AssertionError("the last send returns or raises")

    def pages(
        self, path: str, *, limit: int | None = None, cursor: str = "page_token", **query: Any
    ) -> Iterator[JsonObject]:
        """Items over all pages, `limit` of them at most. Raises as `get`.

        Args:
            cursor: the query's name for where the next page begins.
        """
        token: Any = None
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            page = self.get(path, **{**query, "page_size": size, **({cursor: token} if token else {})})
            items = page.get("items", [])
            yield from items
            left = None if left is None else left - len(items)
            token = page.get("next_page_token")
            if not token:
                return

    @contextmanager
    def stream(self, path: str, *, after: str = "", **query: Any) -> Iterator[Iterator[ServerEvent | None]]:
        """Server-sent events from behind the one numbered `after`; see `read_events`. Raises as `get`."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        timeout = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
        try:
            with self._http.stream("GET", path, params=_given(query), headers=headers, timeout=timeout) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise self._problem(response)
                yield read_events(response.iter_lines())
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        for _ in range(MAX_TURNED_AWAY):
            try:
                response = self._http.request(method, path, params=_given(query or {}), json=body, headers=headers)
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            if response.is_success:
                return response
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            self._sleep(_seconds_to_wait(response))
        raise self._problem(response)

    def _object(self, response: httpx.Response) -> JsonObject:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._stranger(response)
        return body

    def _problem(self, response: httpx.Response) -> Refused | Unreachable:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or "status" not in body:
            return self._stranger(response)
        return Refused(response.status_code, body)

    def _stranger(self, response: httpx.Response) -> Unreachable:
        where = f"{self.endpoint.url} ({self.endpoint.named_by})"
        return Unreachable(
            f"a control plane must answer at {where}, found HTTP {response.status_code} of something else"
        )

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Unreachable(
            f"a control plane must answer at {self.endpoint.url} ({self.endpoint.named_by}), found: {reason}; "
            "start one with `lessrl serve`, or name another with --url or LESSRL_URL"
        )


def _given(query: Query) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None and value != ""}


def _seconds_to_wait(response: httpx.Response) -> float:
    said = response.headers.get("Retry-After", "")
    return min(MAX_WAIT_SECONDS, float(said)) if said.isdecimal() else 1.0
