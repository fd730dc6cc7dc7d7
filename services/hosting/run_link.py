"""The control plane of one run, found or brought along, and the link to it."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.addresses import HOUSE_ADDRESS, LOCAL_ADDRESS
from services.api.access import access_of
from services.durable_files import replace_file
from services.hosting.http_link import HttpTransport
from services.hosting.launcher import RUN_TOKEN_VARIABLE
from services.hosting.link import ControlAway, ControlLink, Transport
from services.hosting.server import AUDIT_FILE, STORE_FILE, ControlOptions, ControlServer
from services.reports import RunDescription, RunReport
from services.run_dir import CONTROL_FILE
from services.run_setup import PreparedRun
from shaping.components import import_module_of
from shaping.errors import RunFailed

OPEN_SECONDS = 120.0
CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLink:
    """A run's link, and where its user finds the control plane."""

    link: ControlLink
    address: str


@asynccontextmanager
async def open_link(
    prepared: PreparedRun, description: RunDescription, history: Sequence[RunReport], *, resumed: bool
) -> AsyncIterator[RunLink]:
    """Register the run; what it brought along is closed at the end, what was there stays.

    On Ray, connect first.

    Raises:
        UserError: the port is in use, the store cannot be used, or the control plane is of another version.
        RunFailed: the control plane does not answer.
    """
    async with _transport(prepared) as (transport, address):
        link = ControlLink(transport, description, resumed=resumed)
        try:
            await link.open(history, seconds=OPEN_SECONDS)
        except ControlAway as away:
            raise RunFailed(role="orchestrator", cause=f"the run must be known to its control plane: {away}") from away
        whereabouts = {"url": address, "run_id": description.run_id}
        replace_file(prepared.run_dir / CONTROL_FILE, json.dumps(whereabouts).encode())
        try:
            yield RunLink(link=link, address=address)
        finally:
            await link.close(seconds=CLOSE_SECONDS)


@asynccontextmanager
async def _transport(prepared: PreparedRun) -> AsyncIterator[tuple[Transport, str]]:
    if url := prepared.options.control:
        yield HttpTransport(url, os.environ.get(RUN_TOKEN_VARIABLE, "")), url
        return
    options = control_options(prepared)
    if prepared.address == HOUSE_ADDRESS:
        server = ControlServer(options)
        try:
            await server.start()
            yield server.transport, server.address
        finally:
            await server.close()
        return
    transport = await import_module_of("services.hosting", "ray_host").open_control(options)
    yield transport, transport.address


def control_options(prepared: PreparedRun) -> ControlOptions:
    """Of the control plane that a run brings along, where there is none yet.

    That of a local Ray or of house mode ends with the run and is the run's alone; that of a cluster stays.
    """
    control, is_own = prepared.recipe.control, prepared.address in (HOUSE_ADDRESS, LOCAL_ADDRESS)
    folder = prepared.run_dir if is_own else prepared.run_dir.parent
    return ControlOptions(
        store=prepared.options.store or str(folder / STORE_FILE),
        host=control.host,
        port=control.port,
        runs=None if is_own else folder,
        address="" if is_own else prepared.address,
        is_reached_over_ray=True,
        access=access_of(control.host, audit_file=folder / AUDIT_FILE),
    )
