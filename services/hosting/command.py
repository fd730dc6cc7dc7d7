"""`lessrl serve` and `lessrl shutdown`: a control plane that outlives its runs, in this process or on a Ray cluster."""

import asyncio
import os
import signal
import sys

from services.addresses import LOCAL_ADDRESS
from services.api.access import access_of
from services.collector import collected_rarely
from services.hosting.server import AUDIT_FILE, STORE_FILE, ControlOptions, ControlServer
from services.run_options import ServeOptions, ShutdownOptions
from shaping.components import import_module_of
from shaping.errors import UserError


def serve(options: ServeOptions) -> int:
    """Serve until SIGINT or SIGTERM; on a cluster: start the control plane there, and leave it.

    Raises:
        UserError: the port is in use, others can reach it and no token is asked for, or the store cannot be used.
    """
    runs = options.runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    access = access_of(
        options.host,
        tokens_file=options.tokens_file,
        allowed_hosts=options.allowed_hosts,
        insecure=options.insecure_no_auth,
        audit_file=runs / AUDIT_FILE,
    )
    control = ControlOptions(
        store=options.store or str(runs / STORE_FILE),
        host=options.host,
        port=options.port,
        runs=runs,
        address=options.address or os.environ.get("RAY_ADDRESS") or LOCAL_ADDRESS,
        is_reached_over_ray=bool(options.address),
        access=access,
    )
    if not options.address:
        with collected_rarely():
            asyncio.run(_serve_here(control))
        return 0
    address = asyncio.run(_serve_on_cluster(control))
    sys.stdout.write(f"the control plane of {options.address} answers at {address}; `lessrl shutdown` ends it\n")
    return 0


def shutdown(options: ShutdownOptions) -> int:
    """End the detached control plane of a Ray cluster; runs that are under way go on without one.

    Raises:
        UserError: there is no cluster, or no control plane on it.
    """
    connection = import_module_of("services", "ray_connection")
    host = import_module_of("services.hosting", "ray_host")
    connection.connect_to(options.address)
    try:
        if not host.end_control():
            raise UserError(f"a control plane must run on the cluster, found none ({options.address})")
    finally:
        connection.disconnect()
    sys.stdout.write("the control plane has ended; its store stays\n")
    return 0


async def _serve_here(control: ControlOptions) -> None:
    ended = asyncio.Event()
    server = ControlServer(control, on_shutdown=ended.set)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await server.start()
        sys.stdout.write(f"lessrl control plane at {server.address}, runs in {control.runs}\n")
        sys.stdout.flush()
        await ended.wait()
    finally:
        await server.close()


async def _serve_on_cluster(control: ControlOptions) -> str:
    connection = import_module_of("services", "ray_connection")
    host = import_module_of("services.hosting", "ray_host")
    connection.connect_to(control.address)
    try:
        transport = await host.open_control(control)
    finally:
        connection.disconnect()
    return str(transport.address)
