"""config get|set|history: the recipe of a run, and what may change while it goes on."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from services.client.errors import EXIT_FAILED, CommandFailed
from services.client.http import JsonObject
from services.client.waiting import Poll
from services.commands.nouns import Asked, asked_of, make_noun
from services.commands.options import AsJson, RunOption, Timeout, Url, parse_pairs
from services.commands.reach import ReachedRun, reach_run
from services.commands.screen import print_facts, print_json, print_table, safe
from services.commands.steer import detached
from services.commands.words import day_time


def _get(asked: Asked, *, key: str = "", original: bool = False, live: bool = False) -> None:
    with reach_run(asked.run, asked.url) as reached:
        path = f"{reached.path}/config"
        if original:
            typer.echo(reached.client.text(path, format="original"), nl=False)
            return
        found = reached.client.get(path)
    if asked.as_json:
        print_json(_at(found["config"], key) if key else found)
    elif live:
        _print_live_keys(found)
    else:
        chosen = _at(found["config"], key) if key else found["config"]
        typer.echo(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True).removesuffix("...\n"), nl=False)


config_app = make_noun("Show the config of a run, and change what may change while it goes on.", _get)


@config_app.command(name="get")
def get(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="A dotted key, learner.optimizer; default all of it.")] = "",
    original: Annotated[bool, typer.Option("--original", help="The text that was submitted.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="The keys that may change now, their ranges and borders.")
    ] = False,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Print the recipe of a run as it is now, every default written out."""
    _get(asked_of(context, run=run, url=url, as_json=as_json), key=key, original=original, live=live)


@config_app.command(name="set")
def set_keys(
    context: typer.Context,
    pairs: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="Dotted keys and their new values.")],
    if_generation: Annotated[
        int | None, typer.Option("--if-generation", help="Only where the config is still at this generation.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has taken effect.")] = False,
    timeout: Timeout = None,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Change live keys: all of them or none. `lessrl config get --live` says which there are."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    values = parse_pairs(pairs, named="KEY=VALUE", example="learner.optimizer.learning_rate=1e-6")
    with reach_run(asked.run, asked.url) as reached:
        path = f"{reached.path}/config"
        etag = f'"{if_generation}"' if if_generation is not None else reached.client.answer(path)[1]
        # Sent twice, the second would be told that the generation has gone on.
        answer = reached.client.call("PATCH", path, _nested(values), headers={"If-Match": etag}, repeat=False)
        if wait:
            answer = answer | {"at_step": _await_step(reached, int(answer["generation"]), timeout)}
    if asked.as_json:
        print_json(answer)
        return
    facts: list[tuple[str, object]] = [("generation", answer["generation"])]
    facts += [("applied", f"{key} = {value}") for key, value in answer["applied"].items()]
    facts += [("pending", f"{key} = {each['value']}, {each['applies']}") for key, each in answer["pending"].items()]
    print_facts([*facts, ("from step", answer["at_step"])] if wait else facts)


@config_app.command(name="history")
def history(context: typer.Context, run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """List the changes of a run's config: who, when, what, and the first step that it held for."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    with reach_run(asked.run, asked.url) as reached:
        found = list(reached.client.pages(f"{reached.path}/config/history"))
    if asked.as_json:
        print_json({"items": found})
        return
    headings = ("generation", "at (UTC)", "by", "from step", "change")
    rows = [
        (each["generation"], day_time(each["at"]), each["by"], _step(each), ", ".join(_changes(each["patch"])))
        for each in found
    ]
    print_table(headings, rows, empty="no changes")


def _await_step(run: ReachedRun, generation: int, timeout: float | None) -> int:
    """First step that a generation holds for, once it is known."""

    def ask() -> JsonObject:
        pages = run.client.pages(f"{run.path}/config/history")
        return next((each for each in pages if each["generation"] == generation), {})

    try:
        found = Poll(what="the change to take effect", timeout_seconds=timeout).until(
            ask, lambda each: not each or each.get("at_step") is not None
        )
    except KeyboardInterrupt as interrupt:
        raise detached(run, f"generation {generation} of the config stays pending") from interrupt
    if not found:
        raise CommandFailed(f"generation {generation} is not in the config's history", exit_code=EXIT_FAILED)
    return int(found["at_step"])


def _nested(values: Mapping[str, Any]) -> JsonObject:
    """Dotted keys as a merge-patch (RFC 7396)."""
    patch: JsonObject = {}
    for key, value in values.items():
        *above, last = key.split(".")
        at = patch
        for name in above:
            inner = at.setdefault(name, {})
            if not isinstance(inner, dict):
                raise CommandFailed(f"KEY=VALUE must set each key once, found {key!r} twice", exit_code=2)
            at = inner
        at[last] = value
    return patch


def _at(config: Any, key: str) -> Any:
    """Member at a dotted key; entries of lists by their kind or their number."""
    found = config
    for name in key.split("."):
        if isinstance(found, list):
            named = {_kind_of(each): each for each in found} | {str(at): each for at, each in enumerate(found)}
            found = named
        if not isinstance(found, Mapping) or name not in found:
            there = ", ".join(map(str, found)) if isinstance(found, Mapping) else "no keys below it"
            raise CommandFailed(f"KEY must be a key of the config, got {key!r}; at {name!r} found {there}", exit_code=2)
        found = found[name]
    return found


def _kind_of(entry: Any) -> str:
    return str(entry.get("kind", "")) if isinstance(entry, Mapping) else str(entry)


def _print_live_keys(found: JsonObject) -> None:
    console = Console()
    pending = found.get("pending") or {}
    for each in found["live_keys"]:
        waits = " (pending)" if each["key"] in pending else ""
        head = Text.assemble((safe(each["key"]), "bold"), f" = {safe(_shown(each['value']))}{waits}")
        border = str(each["applies"]).replace("_", " ")
        console.print(head.append(f"   {safe(_range(each))}, from the {border}", style="bright_black"), soft_wrap=True)
        console.print(Padding(Text(safe(each["meaning"])), (0, 0, 0, 4)))


def _range(key: JsonObject) -> str:
    if key.get("choices"):
        return ", ".join(map(str, key["choices"]))
    low, high = (_shown(key.get(bound)) for bound in ("minimum", "maximum"))
    return f"{key.get('kind')} {low}..{high}" if (low, high) != ("", "") else str(key.get("kind"))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _step(generation: JsonObject) -> str:
    at_step = generation.get("at_step")
    return "pending" if at_step is None else str(at_step)


def _changes(patch: Mapping[str, Any]) -> Iterator[str]:
    if not patch:
        yield "the recipe"
    for key, value in patch.items():
        yield f"{safe(key)} = {safe(_shown(value))}"
