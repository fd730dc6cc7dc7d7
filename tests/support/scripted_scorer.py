"""An external scorer on a real socket of this machine: each request is answered as the script says, in order."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Items = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Args:
        body: JSON, raw bytes, or what makes the results from the items.
        breaks: the connection is closed without an answer.
        hangs: nothing is answered until the scorer closes, or, with a body, its last byte is not.
    """

    status: int = 200
    body: bytes | dict[str, Any] | Callable[[Items], list[Any]] = b""
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False
    hangs: bool = False


def by_length(items: Items) -> list[dict[str, Any]]:
    """Scores that differ with the response."""
    return [{"score": len(item["response"])} for item in items]


class ScriptedScorer:
    """Answers request i with `script[i]`, and all further ones with the last.

    Attributes:
        requests: what was asked, with the request's headers under "headers" and its path under "path".
    """

    def __init__(self, script: Sequence[Answer]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._script = script
        self._lock = threading.Lock()
        self._closing = threading.Event()
        scorer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    scorer._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/score"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            answer = self._script[min(len(self.requests), len(self._script) - 1)]
            self.requests.append(asked | {"headers": dict(handler.headers), "path": handler.path})
        if answer.breaks:
            handler.close_connection = True
            return
        made = {"results": answer.body(asked["items"])} if callable(answer.body) else answer.body
        body = made if isinstance(made, bytes) else json.dumps(made).encode()
        if answer.hangs and not body:
            self._closing.wait()
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:-1] if answer.hangs else body)
        if answer.hangs:
            handler.wfile.flush()
            self._closing.wait()
