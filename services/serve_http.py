"""Serves an ASGI application on the event loop it is called on: no thread, no signal handlers, a clean stop."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from shaping.errors import UserError

BACKLOG = 128
STOP_SECONDS = 3

logger = logging.getLogger(__name__)


def bind_port(host: str, port: int) -> socket.socket:
    """A socket that owns the port, before anything else is started.

    Args:
        port: 0 picks a free one.
    Raises:
        UserError: the port is in use, or the address is not this machine's.
    """
    where = "control.host and control.port in the recipe"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(
            f"the control plane needs a host of this machine, got {host!r} ({where}); use 127.0.0.1"
        ) from error
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            advice = "stop what uses it, or choose another; 0 picks a free one"
            raise UserError(
                f"the control plane needs a free port, found {host}:{port} in use ({where}); {advice}"
            ) from error
        found = os.strerror(error.errno or 0)
        raise UserError(
            f"the control plane must be able to listen on {host}:{port}, found: {found} ({where})"
        ) from error
    return bound


def reachable_host(host: str) -> str:
    """What processes of this machine call a bind by: one to any address answers to no name of its own.

    Args:
        host: as bound; an IPv6 address without brackets.
    """
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


class HttpServer:
    """A server that runs until `stop`. Make it with `HttpServer.start`."""

    def __init__(self, server: "_Server", task: asyncio.Task[None], address: str) -> None:
        self._server = server
        self._task = task
        self.address = address

    @classmethod
    async def start(cls, app: Any, bound: socket.socket) -> "HttpServer":
        """Serve on a socket of `bind_port`; returns once requests are answered."""
        config = uvicorn.Config(
            app,
            log_level="warning",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS,
            server_header=False,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[bound]))
        started = asyncio.create_task(server.ready.wait())
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            await task
            raise RuntimeError("the HTTP server ended before it had started")
        return cls(server, task, _address(bound))

    async def stop(self) -> None:
        """Answer what is under way and free the port; a second stop does nothing."""
        self._server.should_exit = True
        await self._task


class _Server(uvicorn.Server):
    """uvicorn's server, which would otherwise take SIGINT and SIGTERM from whoever runs the loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
