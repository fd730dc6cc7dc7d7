"""Commands with commands of their own: `lessrl workers [RUN] [ACTION] ...`.

The run stands first, and may be left out: a first word that is no action is the run's. Without an action the noun
lists, or shows, what there is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from shaping.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What stands before the action."""

    run: str
    url: str
    as_json: bool


class RunFirst(TyperGroup):
    """Takes a first word that is no action as the run's; a second one that is none is a mistake."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["--run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise UserError(f"`lessrl {self.name}` must be told one of {', '.join(self.commands)}, got {args[0]!r}")
        return super().resolve_command(ctx, args)


def make_noun(help: str, bare: Callable[[Asked], None]) -> typer.Typer:
    """A noun.

    Args:
        bare: what it does without an action.
    """
    noun = typer.Typer(cls=RunFirst, help=help, invoke_without_command=True)

    @noun.callback()
    def begin(
        context: typer.Context,
        run: str = typer.Option("", metavar="RUN", help="A run's id, name or directory; default the only active run."),
        url: str = typer.Option("", help="Address of the control plane; default LESSRL_URL, see docs/cli.md."),
        as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    ) -> None:
        context.obj = Asked(run=run, url=url, as_json=as_json)
        if context.invoked_subcommand is None:
            bare(context.obj)

    return noun


def asked_of(context: typer.Context, *, run: str = "", url: str = "", as_json: bool = False) -> Asked:
    """What stands before the action and behind it; the latter counts where both say something."""
    before: Asked = context.obj
    return Asked(run=run or before.run, url=url or before.url, as_json=as_json or before.as_json)
