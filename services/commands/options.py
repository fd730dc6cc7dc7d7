"""Words that several commands take, each with one meaning, and how they are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from services.recipe_yaml import read_yaml
from shaping.errors import RecipeError, UserError

RecipePath = Annotated[Path, typer.Argument(help="A recipe file; see deploy/recipes.")]
Runs = Annotated[Path, typer.Option(envvar="LESSRL_RUNS", help="Folder in which runs get their directories.")]
Address = Annotated[
    str,
    typer.Option(
        envvar="RAY_ADDRESS", help='A Ray address; "local" starts a Ray for this run alone, "house" uses none.'
    ),
]
Overrides = Annotated[list[str], typer.Option("--set", help="Override a key: --set run.steps=10. May be repeated.")]
Layers = Annotated[
    list[Path],
    typer.Option(
        "--with",
        metavar="FILE",
        help="Merge a file into the recipe, before --set: --with methods/less.yaml. May be repeated.",
    ),
]
Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, name or directory; may be left out where one run is active."),
]
RunOption = Annotated[
    str, typer.Option("--run", metavar="RUN", help="A run's id, name or directory; default the only active run.")
]
# Not through typer's envvar: which of --url, a run's directory and LESSRL_URL counts is decided in services/client.
Url = Annotated[str, typer.Option(help="Address of the control plane; default LESSRL_URL, see docs/cli.md.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="A remark for the audit log and for whoever looks.")]
Timeout = Annotated[float | None, typer.Option(min=0.0, help="Stop waiting after so many seconds, with exit code 5.")]


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs of --set, values read as YAML.

    Raises:
        RecipeError: not of that form.
    """
    return parse_pairs(overrides, named="--set", example="--set run.steps=10")


def parse_pairs(pairs: Sequence[str], *, named: str, example: str) -> dict[str, Any]:
    """`key=value` pairs, values read as YAML.

    Args:
        named: the option or argument that they come from.
    Raises:
        RecipeError: not of that form.
    """
    parsed: dict[str, Any] = {}
    for each in pairs:
        key, separator, value = each.partition("=")
        if not separator or not key:
            raise RecipeError(f"{named} must be key=value, got {each!r}; for example {example}")
        try:
            parsed[key] = read_yaml(value)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise RecipeError(f"the value of {named} must be valid YAML, got {value!r}: {reason} ({key})") from error
    return parsed


def parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """`key=value` pairs of --label, values as they stand.

    Raises:
        UserError: not of that form.
    """
    parsed: dict[str, str] = {}
    for each in labels:
        key, separator, value = each.partition("=")
        if not separator or not key:
            raise UserError(f"--label must be key=value, got {each!r}; for example --label team=a")
        parsed[key] = value
    return parsed
