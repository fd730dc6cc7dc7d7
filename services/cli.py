"""The command `lessrl`: every command by name, and what a mistake looks like. The commands are in services/commands.

Exit codes: 0 as asked, 1 the run or the operation failed, 2 what was asked for cannot work, 3 no control plane answers,
4 the run's state does not allow it, 5 the wait ended first, 130 the run was cancelled.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from services.client.errors import EXIT_FAILED, EXIT_USAGE, CommandFailed
from services.commands import doctor, files, look, service, steer, streams, study, submit, top, training
from services.commands.checkpoints import checkpoints_app
from services.commands.config import config_app
from services.commands.dashboards import dashboards_app
from services.commands.evals import eval_app
from services.commands.groups import groups_app
from services.commands.screen import without_color
from services.commands.workers import workers_app
from services.explain.marks import visible
from shaping.errors import CheckpointError, RunFailed, UserError

NO_COLOR = "--no-color"

_BEGIN, _LOOK, _STEER, _FILES, _SERVICE = "Begin", "Look", "Steer", "Files of runs and of your own", "Control plane"

_COMMANDS: dict[str, dict[str, Callable[..., Any]]] = {
    _BEGIN: {
        "train": training.train,
        "submit": submit.submit,
        "plan": training.plan,
        "simulate": training.simulate,
        "study": study.study,
    },
    _LOOK: {
        "list": look.list_runs,
        "status": look.status,
        "top": top.top,
        "wait": look.wait,
        "logs": streams.logs,
        "events": streams.events,
    },
    _STEER: {"pause": steer.pause, "resume": training.resume, "cancel": steer.cancel},
    _FILES: {
        "export": files.export,
        "replay": files.replay,
        "evaluate": files.evaluate,
        "compare": files.compare,
        "explain": files.explain,
        "hints": files.hints,
    },
    _SERVICE: {
        "serve": service.serve,
        "shutdown": service.shutdown,
        "doctor": doctor.doctor,
        "version": service.version,
    },
}
_NOUNS = {
    _LOOK: {"groups": groups_app, "workers": workers_app},
    _STEER: {"config": config_app, "checkpoints": checkpoints_app, "eval": eval_app},
    _FILES: {"dashboards": dashboards_app},
}


class _Root(TyperGroup):
    """Takes --no-color wherever it stands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = args[: args.index("--")] if "--" in args else args
        if NO_COLOR in own:
            args = [NO_COLOR, *(each for each in own if each != NO_COLOR), *args[len(own) :]]
        return super().parse_args(ctx, args)


def _begin(
    context: typer.Context,
    no_color: Annotated[bool, typer.Option(NO_COLOR, help="Print without colour, as with NO_COLOR set.")] = False,
) -> None:
    """Reinforcement learning with verifiable rewards for reasoning LLMs, with LESS segment shaping."""
    if no_color:
        context.with_resource(without_color())


def make_app() -> typer.Typer:
    """The whole command."""
    app = typer.Typer(cls=_Root, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_begin)
    for panel, commands in _COMMANDS.items():
        for name, command in commands.items():
            app.command(name=name, rich_help_panel=panel)(command)
        for name, noun in _NOUNS.get(panel, {}).items():
            app.add_typer(noun, name=name, rich_help_panel=panel)
    data = typer.Typer(no_args_is_help=True, help="Look into sources of prompts.")
    data.command(name="inspect")(files.inspect)
    data.command(name="steps")(files.steps)
    app.add_typer(data, name="data", rich_help_panel=_FILES)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: what went wrong is one line, and an exit code.

    Args:
        arguments: those of the command line, the program's name left out; None takes the process's own.
    """
    try:
        make_app()(arguments)
    except (UserError, CheckpointError, RunFailed, CommandFailed) as error:
        # It may quote what a data file, or somebody else's server, holds.
        sys.stderr.write(f"lessrl: {visible(' '.join(str(error).split()), is_ascii=False)}\n")
        sys.exit(_exit_code(error))


def _exit_code(error: Exception) -> int:
    if isinstance(error, CommandFailed):
        return error.exit_code
    return EXIT_FAILED if isinstance(error, RunFailed) else EXIT_USAGE


if __name__ == "__main__":
    main()
