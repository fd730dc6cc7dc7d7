"""doctor: whether this machine can run what it is asked to, a line for each thing that was looked at."""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.options import AsJson, Layers, Runs, Url
from shaping.components import import_module_of


def doctor(
    runs: Runs = Path("runs"),
    store: Annotated[
        str, typer.Option(envvar="LESSRL_STORE", help="Store of the control plane, to be looked at.")
    ] = "",
    address: Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster to be reached.")] = "",
    url: Url = "",
    model: Annotated[
        str, typer.Option(help="A recipe, a model's folder or a Hugging Face name, to be looked at.")
    ] = "",
    layers: Layers = [],  # noqa: B006
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Run one step of a tiny run, about 10 s.")
    ] = True,
    full: Annotated[
        bool, typer.Option("--full", help="Self-test with vLLM, DeepSpeed and a Ray of its own, about a minute.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at this machine, and try engine, verifier and learner on it; exit with 1 where something fails."""
    # The database's library is for this command alone.
    doctor = import_module_of("services.doctor", "report")
    wanted = doctor.Wanted(
        runs=runs,
        store=store,
        address=address,
        url=url,
        model=model,
        has_self_test=self_test,
        is_full=full,
        layers=tuple(layers),
    )
    raise typer.Exit(doctor.report(wanted, as_json=as_json))
