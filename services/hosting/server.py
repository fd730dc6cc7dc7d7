"""A control plane with its store, its clock and its HTTP server, as one object: the same wherever it lives."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.api.access import Access
from services.api.app import create_app
from services.api.auth import Role, Token
from services.control.plane import ControlPlane
from services.control.reconciler import Reconciler
from services.control.records import Change, ControlStore, StoreError
from services.control.store import open_store
from services.hosting.direct import DirectTransport
from services.hosting.launcher import ProcessExporter, ProcessLauncher
from services.run_view.views import RunViews
from services.serve_http import HttpServer, bind_port, reachable_host
from shaping.errors import UserError

STORE_FILE, AUDIT_FILE = "control.db", "audit.jsonl"
"""In the folder of the runs, or in the directory of the one run that a control plane is for."""

PORT_SETTING = "port"
LAUNCHED_RUNS = "launched-runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOptions:
    """What a control plane needs to begin, or to begin again. It pickles.

    Args:
        store: a path or a database's URL.
        port: 0 takes the one that it had before, or a free one.
        runs: folder of the runs that it starts; None: it starts none.
        address: Ray address of the runs that it starts, or "local" or "house".
        is_reached_over_ray: whether these runs find it by its actor's name; otherwise they report over HTTP.
    """

    store: str
    host: str = "127.0.0.1"
    port: int = 0
    runs: Path | None = None
    address: str = ""
    is_reached_over_ray: bool = False
    access: Access = field(default_factory=Access)


class ControlServer:
    """Open it with `start`, and `close` it.

    Args:
        on_shutdown: called when somebody ends it over HTTP; None: nobody can.
    """

    def __init__(self, options: ControlOptions, *, on_shutdown: Callable[[], None] | None = None) -> None:
        self._options = options
        self._on_shutdown = on_shutdown
        self._server: HttpServer | None = None
        self._views: RunViews
        self._watching: asyncio.Task[None] | None = None
        self.address = ""
        self.plane: ControlPlane
        self.transport: DirectTransport

    async def start(self) -> None:
        """Read the store, watch deadlines and answer HTTP from now on.

        Raises:
            UserError: the port is in use, or the store cannot be used.
        """
        options = self._options
        try:
            store = await asyncio.to_thread(open_store, options.store)
        except StoreError as error:
            raise UserError(f"{error} (--store)") from error
        try:
            bound = _bind(options, store)
        except UserError:
            store.close()
            raise
        port = bound.getsockname()[1]
        store.commit(Change(settings={PORT_SETTING: str(port)}))
        run_token = secrets.token_urlsafe(32)
        access = _knowing(options.access, run_token)
        launcher = ProcessLauncher(
            url="" if options.is_reached_over_ray else f"http://{reachable_host(options.host)}:{port}",
            address=options.address,
            token=run_token,
        )
        self.plane = ControlPlane(
            store, clock=time.time, launcher=launcher, exporter=ProcessExporter(), runs_dir=options.runs
        )
        self.plane.redactor.learn([run_token])
        await self.plane.open()
        self.transport = DirectTransport(self.plane)
        reconciler = Reconciler(self.plane)
        app = create_app(
            self.plane,
            registry=self.plane.registry,
            access=access,
            transport=self.transport,
            on_shutdown=self._on_shutdown,
        )
        self._views = app.state.views
        self._server = await HttpServer.start(app, bound)
        self.address = self._server.address
        self._watching = asyncio.create_task(reconciler.keep_time())

    async def close(self) -> None:
        """Stop answering and let go of the store; harmless when repeated."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        if self._server is not None:
            await self._server.stop()
            self._server = None
            self._views.close()
            await self.plane.close()


def _bind(options: ControlOptions, store: ControlStore) -> socket.socket:
    """The port that is asked for; else that of the process before this one, so that those who watch find it again."""
    before = int(store.setting(PORT_SETTING) or 0)
    if options.port or not before:
        return bind_port(options.host, options.port)
    try:
        return bind_port(options.host, before)
    except UserError:
        return bind_port(options.host, 0)


def _knowing(access: Access, run_token: str) -> Access:
    """Access for launched processes too, where a token is asked for at all."""
    if not access.tokens:
        return access
    return replace(access, tokens=(*access.tokens, Token.of(LAUNCHED_RUNS, Role.OPERATE, run_token)))
