"""The command `lessrl`. Thin: each command reads its arguments and calls one function.

Exit codes: 0 done, 1 the run failed, 2 what was asked for cannot work, 130 cancelled.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from services.plan import make_plan
from services.plan_text import plan_text
from services.ray_connection import LOCAL_ADDRESS
from services.recipe import load_recipe, read_yaml
from services.submission import submit_recipe
from services.training import TrainOptions, train
from shaping.errors import RecipeError, UserError

EXIT_USER_ERROR = 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RecipePath = Annotated[Path, typer.Argument(help="A recipe file; see deploy/recipes.")]
Runs = Annotated[Path, typer.Option(envvar="LESSRL_RUNS", help="Folder in which runs get their directories.")]
Overrides = Annotated[list[str], typer.Option("--set", help="Override a key: --set run.steps=10. May be repeated.")]


@app.command(name="train")
def train_command(
    recipe: RecipePath,
    run_dir: Annotated[Path | None, typer.Option(help="A new or empty directory; default <runs>/<name>.")] = None,
    runs: Runs = Path("runs"),
    address: Annotated[
        str,
        typer.Option(
            envvar="RAY_ADDRESS",
            help='A Ray address; "local" starts a Ray for this run alone, "house" uses none.',
        ),
    ] = LOCAL_ADDRESS,
    overrides: Overrides = [],  # noqa: B006  typer reads the default and never changes it
) -> None:
    """Run a recipe to its end."""
    loaded = load_recipe(recipe, parse_overrides(overrides))
    raise typer.Exit(train(loaded, TrainOptions(run_dir=run_dir, runs=runs, address=address)))


@app.command(name="plan")
def plan_command(
    recipe: RecipePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Say what a recipe means, or why it cannot work. Starts nothing."""
    loaded = load_recipe(recipe, parse_overrides(overrides))
    plan = make_plan(loaded)
    typer.echo(json.dumps(plan.as_dict(), indent=2) if as_json else plan_text(plan))


@app.command(name="submit")
def submit_command(
    recipe: RecipePath,
    address: Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Address of the Ray dashboard.")] = (
        "http://127.0.0.1:8265"
    ),
    runs: Runs = Path("runs"),
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Run a recipe as a Ray job on a running cluster, follow it, and exit with its code."""
    make_plan(load_recipe(recipe, parse_overrides(overrides)))
    raise typer.Exit(submit_recipe(recipe, overrides, address, runs.resolve()))


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """`key=value` pairs, values read as YAML.

    Raises:
        RecipeError: not of that form.
    """
    parsed: dict[str, Any] = {}
    for each in overrides:
        key, separator, value = each.partition("=")
        if not separator or not key:
            raise RecipeError(f"--set must be key=value, got {each!r}; for example --set run.steps=10")
        try:
            parsed[key] = read_yaml(value)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise RecipeError(f"the value of --set must be valid YAML, got {value!r}: {reason} ({key})") from error
    return parsed


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a user's mistake is one line and exit code 2.

    Args:
        arguments: those of the command line, the program's name left out; None takes the process's own.
    """
    try:
        app(arguments)
    except UserError as error:
        sys.stderr.write(f"lessrl: {' '.join(str(error).split())}\n")
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
