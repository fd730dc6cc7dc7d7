"""doctor: whether this machine can run what it is asked to, a line for each thing that was looked at."""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.options import AsJson, Runs, Url
from shaping.components import import_module_of


def doctor(
    runs: Runs = Path("runs"),
    store: Annotated[
        str, typer.Option(envvar="LESSRL_STORE", help="Store of the control plane, to be looked at.")
    ] = "",
    address: Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster to be reached.")] = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Look at this machine: versions, memory, disk, GPUs, ports, Ray, store; exit with 1 where something fails."""
    # The database's library is for this command alone.
    report = import_module_of("services.commands", "doctor_report").report
    raise typer.Exit(report(runs, store, address, url, as_json=as_json))
