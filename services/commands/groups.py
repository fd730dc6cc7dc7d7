"""groups [list|show]: the groups that a run has trained or dropped, and one of them token by token."""

from typing import Annotated

import typer
from rich.console import Console

from services.client.http import JsonObject
from services.commands.group_text import print_group_view
from services.commands.nouns import Asked, asked_of, make_noun
from services.commands.options import AsJson, RunOption, Url
from services.commands.reach import reach_run
from services.commands.screen import print_json, print_table
from services.commands.words import number

DEFAULT_LIMIT = 50


def _list(asked: Asked, *, step: int | None = None, outcome: str = "", limit: int = DEFAULT_LIMIT) -> None:
    with reach_run(asked.run, asked.url) as reached:
        found = list(reached.client.pages(f"{reached.path}/groups", limit=limit, step=step, outcome=outcome))
    if asked.as_json:
        print_json({"items": found})
        return
    headings = ("group", "step", "prompt", "outcome", "verdicts", "correct", "tokens", "shown")
    print_table(headings, map(_row, found), empty="no groups")


def _row(group: JsonObject) -> tuple[object, ...]:
    correct = f"{number(group.get('num_correct'))}/{number(group.get('num_rollouts'))}"
    verdicts = str(group.get("verdicts") or "").replace("_", " ")
    shown = "yes" if group.get("is_stored") else "no"
    who = (group.get("group_id"), number(group.get("step")), group.get("prompt_id"))
    return (*who, group.get("outcome"), verdicts, correct, number(group.get("num_tokens")), shown)


groups_app = make_noun("List the groups of a run, the newest step first, or show one token by token.", _list)


@groups_app.command(name="list")
def list_groups(
    context: typer.Context,
    step: Annotated[int | None, typer.Option(min=0, help="Groups of this step alone.")] = None,
    outcome: Annotated[str, typer.Option(help="mixed, all_correct, all_incorrect, trained or dropped_<reason>.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Groups at most.")] = DEFAULT_LIMIT,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """List them; those that were written down token by token can be shown."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    _list(asked, step=step, outcome=outcome, limit=limit)


@groups_app.command(name="show")
def show(
    context: typer.Context,
    group: Annotated[str, typer.Argument(help="Its id; see `lessrl groups`.")],
    rollout: Annotated[int | None, typer.Option(min=0, help="This rollout alone.")] = None,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Show a group: each response with a mark below each token for its class, as `lessrl explain` does for a file."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    with reach_run(asked.run, asked.url) as reached:
        found = reached.client.get(f"{reached.path}/groups/{group}")
    if asked.as_json:
        print_json(found)
    else:
        print_group_view(Console(), found, rollout=rollout)
