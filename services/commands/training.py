"""train, resume, plan, simulate: what starts a run here, and what says how it would go.

Training imports Ray, which takes seconds: it is imported by its own commands alone.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from services.addresses import LOCAL_ADDRESS
from services.commands.options import Address, AsJson, Layers, Overrides, RecipePath, Runs, parse_overrides
from services.commands.reach import directory_of, is_going_on
from services.commands.steer import resume_over_api
from services.hosting.supervisor import supervised
from services.placement.described_cluster import read_cluster
from services.placement.place import place
from services.placement.text import placement_text
from services.plan import make_plan
from services.plan_text import plan_text
from services.recipe import load_recipe
from services.run_options import RunOptions
from shaping.components import import_module_of
from shaping.errors import UserError

API_PANEL, DIRECTORY_PANEL = "A run that is paused", "A run that ended or died"

Store = Annotated[
    str,
    typer.Option(envvar="LESSRL_STORE", help="Path or database URL of its control plane; default in its directory."),
]
Control = Annotated[
    str, typer.Option(envvar="LESSRL_CONTROL", help="Address of a control plane that is there; default its own.")
]
KeepAlive = Annotated[bool, typer.Option("--keep-alive", help="Go on when whoever started the run is gone.")]


def train(
    recipe: RecipePath,
    run_dir: Annotated[Path | None, typer.Option(help="A new or empty directory; default <runs>/<name>.")] = None,
    runs: Runs = Path("runs"),
    address: Address = LOCAL_ADDRESS,
    changes: Annotated[
        Path | None, typer.Option(help="Live changes to replay: the changes.jsonl of another run.")
    ] = None,
    store: Store = "",
    control: Control = "",
    keep_alive: KeepAlive = False,
    layers: Layers = [],  # noqa: B006  typer reads the default and never changes it
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Run a recipe to its end; a run that dies goes on from its last checkpoint."""
    loaded = load_recipe(recipe, parse_overrides(overrides), layers=layers)
    options = RunOptions(
        keep_alive=keep_alive, changes=changes, store=store, control=control, layers=tuple(map(str, layers))
    )
    setup = import_module_of("services", "run_setup")
    prepared = setup.prepare_run(loaded, run_dir=run_dir, runs=runs, address=address, options=options)
    raise typer.Exit(supervised(prepared))


def resume(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]",
            help="A paused run's id or name, or nothing for the only active run; or a directory of a run that ended.",
        ),
    ] = "",
    reason: Annotated[str, typer.Option(help="A remark for the audit log.", rich_help_panel=API_PANEL)] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it runs.", rich_help_panel=API_PANEL)
    ] = False,
    url: Annotated[str, typer.Option(help="Address of the control plane.", rich_help_panel=API_PANEL)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=API_PANEL)] = False,
    checkpoint: Annotated[
        str, typer.Option("--from", help="A checkpoint's name; default the latest, or the pause's own.")
    ] = "",
    address: Annotated[
        str, typer.Option(envvar="RAY_ADDRESS", help="As for train.", rich_help_panel=DIRECTORY_PANEL)
    ] = LOCAL_ADDRESS,
    store: Annotated[
        str, typer.Option(envvar="LESSRL_STORE", help="As for train.", rich_help_panel=DIRECTORY_PANEL)
    ] = "",
    control: Annotated[
        str, typer.Option(envvar="LESSRL_CONTROL", help="As for train.", rich_help_panel=DIRECTORY_PANEL)
    ] = "",
    keep_alive: Annotated[
        bool, typer.Option("--keep-alive", help="As for train.", rich_help_panel=DIRECTORY_PANEL)
    ] = False,
    overrides: Annotated[
        list[str], typer.Option("--set", help="Override a key of the recipe.", rich_help_panel=DIRECTORY_PANEL)
    ] = [],  # noqa: B006
) -> None:
    """Go on: a paused run over the API, or a run that ended or died from a checkpoint in its own directory."""
    run_dir = directory_of(target)
    if run_dir is None or is_going_on(run_dir, url):
        if overrides:
            raise UserError("--set is for a run that ended or died; change a run that goes on with `lessrl config set`")
        raise typer.Exit(resume_over_api(target, url, reason=reason, checkpoint=checkpoint, wait=wait, as_json=as_json))
    options = RunOptions(keep_alive=keep_alive, store=store, control=control)
    setup, changes = import_module_of("services", "run_setup"), parse_overrides(overrides)
    prepared = setup.reopen_run(
        run_dir, changes, checkpoint=checkpoint or setup.LATEST, address=address, options=options
    )
    raise typer.Exit(supervised(prepared))


def plan(
    recipe: RecipePath,
    cluster: Annotated[
        Path | None, typer.Option(help="A file that describes nodes (docs/cluster.md): which actor goes where.")
    ] = None,
    as_json: AsJson = False,
    layers: Layers = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say what a recipe means and whether it fits a cluster, or why it cannot work. Starts nothing."""
    loaded = load_recipe(recipe, parse_overrides(overrides), layers=layers)
    plan = make_plan(loaded)
    placement = place(loaded, plan, read_cluster(cluster)) if cluster else None
    if as_json:
        placed = {"placement": placement.as_dict()} if placement else {}
        typer.echo(json.dumps(plan.as_dict() | placed, indent=2))
        return
    typer.echo(plan_text(plan))
    if placement:
        typer.echo(placement_text(placement))


def simulate(
    recipe: RecipePath,
    workers: Annotated[str, typer.Option(help="Numbers of rollout workers, one simulated run each.")] = "1,10,100,1000",
    recorded: Annotated[
        Path | None,
        typer.Option("--from", help="Directory of a synchronous run: its service times in place of the ones below."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps at most.")] = 20,
    response_tokens: Annotated[float, typer.Option(help="Mean length; 0: half of the recipe's limit.")] = 0.0,
    decode_tokens_per_s: Annotated[float, typer.Option(help="Of one response.")] = 50.0,
    train_tokens_per_s: Annotated[float, typer.Option(help="Of the whole learner.")] = 10_000.0,
    sync_seconds: Annotated[float, typer.Option(help="Of a weight sync.")] = 5.0,
    keep_share: Annotated[float, typer.Option(help="Groups that are kept.")] = 1.0,
    as_json: AsJson = False,
    layers: Layers = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say how a recipe would run on more workers: its orchestrator over roles that only wait, on a virtual clock."""
    loaded = load_recipe(recipe, parse_overrides(overrides), layers=layers)
    command = import_module_of("services.simulation", "command")
    request = command.SimulateRequest(
        workers=command.parse_workers(workers),
        steps=steps,
        recorded=recorded,
        response_tokens=response_tokens,
        decode_tokens_per_s=decode_tokens_per_s,
        train_tokens_per_s=train_tokens_per_s,
        sync_seconds=sync_seconds,
        keep_share=keep_share,
    )
    command.simulate_recipe(loaded, request, Console(), as_json=as_json)
