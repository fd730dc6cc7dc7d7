"""logs and events: what a run says, once or as it comes. Nothing that it quotes can steer the terminal."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from services.client.errors import CommandFailed
from services.client.http import JsonObject
from services.client.runs import is_over
from services.client.waiting import follow
from services.commands.options import AsJson, Run, Url
from services.commands.reach import ReachedRun, reach_run
from services.commands.screen import print_json_line, remark, safe
from services.commands.words import event_line, log_line

DEFAULT_TAIL = 100
MAX_POSITION_CHARS = 8 << 10

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until the run ends or Ctrl-C.")]


def events(
    run: Run = "",
    kind: Annotated[str, typer.Option("--type", help="Events of this type alone.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Events with a larger id alone.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Events at most, oldest first.")] = None,
    is_followed: Follow = False,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Print what happened to a run, oldest first; with --json one object per line."""
    show = _printer(as_json, event_line)
    with _left_alone(), reach_run(run, url) as reached:
        last = after
        for event in reached.client.pages(
            f"{reached.path}/events", limit=limit, cursor="after", type=kind, after=after
        ):
            show(event)
            last = int(event.get("id", last))
        if is_followed:
            came = _follow(reached, "events", after=str(last), type=kind)
            _print_until_end(reached, came, show)


def logs(
    run: Run = "",
    component: Annotated[str, typer.Option(help="Of this part alone: driver, rollout, learner, shaping ...")] = "",
    worker: Annotated[str, typer.Option(help="Of this worker alone.")] = "",
    level: Annotated[str, typer.Option(help="This level and above: INFO, WARNING, ERROR.")] = "",
    since: Annotated[float | None, typer.Option(min=0.0, help="Lines of the last so many seconds alone.")] = None,
    search: Annotated[str, typer.Option(help="Lines that hold this text alone; case does not count.")] = "",
    tail: Annotated[int, typer.Option(min=0, help="The last so many lines.")] = DEFAULT_TAIL,
    is_followed: Follow = False,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Print what the parts of a run log; with --json one object per line."""
    show = _printer(as_json, log_line)
    query = {"component": component, "worker": worker, "level": level, "search": search}
    with _left_alone(), reach_run(run, url) as reached:
        lines = reached.client.get(f"{reached.path}/logs", **query, since_seconds=since, tail=tail)
        for line in lines["items"]:
            show(line)
        if is_followed:
            position = str(lines.get("position") or "")
            # Longer than a header may be, with some hundreds of workers: then it goes on with what comes now.
            came = _follow(reached, "logs", after=position if len(position) <= MAX_POSITION_CHARS else "", **query)
            _print_until_end(reached, came, show)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Ctrl-C is the ordinary way to leave what is followed: it is no failure, and it stops nothing."""
    try:
        yield
    except KeyboardInterrupt:
        remark("left; the run goes on, `lessrl status` says how it is")


def _printer(as_json: bool, in_words: Callable[[Any], str]) -> Callable[[Any], None]:
    return print_json_line if as_json else lambda data: typer.echo(safe(in_words(data)))


def _follow(run: ReachedRun, what: str, *, after: str, **query: Any) -> Iterator[JsonObject | None]:
    """What a stream brings; None at each sign of life between."""
    for event in follow(run.client, f"{run.path}/{what}/stream", after=after, on_away=_say_away, **query):
        yield event.data if event is not None and isinstance(event.data, dict) else None


def _print_until_end(run: ReachedRun, came: Iterable[JsonObject | None], show: Callable[[Any], None]) -> None:
    """Print until the run is over."""
    for data in came:
        if data is not None:
            show(data)
        if (data is None or _tells_end(data)) and _has_ended(run):
            return


def _tells_end(data: JsonObject) -> bool:
    return data.get("type") == "run_state_changed" and is_over(data)


def _has_ended(run: ReachedRun) -> bool:
    try:
        return is_over(run.client.get(f"{run.path}/status"))
    except CommandFailed:
        return False


def _say_away(error: CommandFailed) -> None:
    remark(f"the control plane is away, trying again: {error}")
