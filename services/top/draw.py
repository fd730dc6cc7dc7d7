"""The screen of `lessrl top`: as much of the facts as the terminal has room for, the most wanted first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from services.commands.look import STATE_STYLES
from services.commands.pause_view import PauseView
from services.commands.screen import ABSENT, safe
from services.commands.words import clock_time, number
from services.progress_facts import duration
from services.terminal_bars import Part, chart, class_bar, stacked_bar, wrapped
from services.top.facts import CURVES, TopFacts

WIDE = 78
FRAME_ROWS, FRAME_CELLS = 2, 6
LABEL_CELLS, VALUE_CELLS = 10, 7
MAX_CHART_ROWS, MAX_GROUP_ROWS = 3, 2
MIN_EVENT_ROWS, MAX_EVENT_ROWS = 3, 12
KIND_CELLS = 20
QUEUE_CELLS, DEPTH_CELLS, QUEUE_BAR = 13, 7, 10

DIM, HEAD = "bright_black", "bold"

_CURVE_ROWS = tuple(
    zip(("held-out", "accuracy", "reward", "entropy"), CURVES, ("{:.1%}", "{:.1%}", "{:.3f}", "{:.3f}"), strict=True)
)
_CURVE_STYLES = ("bold green", "green", "cyan", "magenta")
# Phases of a step by mark and colour; one that is not here is `other`.
_PHASES = {
    "wait_batch": ("█", "#", "blue"),
    "train": ("▓", "=", "green"),
    "weight_sync": ("▒", "%", "yellow"),
    "evaluation": ("░", "-", "magenta"),
    "checkpoint": ("·", ".", "cyan"),
}
_OTHER_PHASE = ("╌", "~", "bright_black")


@dataclass(frozen=True, slots=True)
class Screen:
    """One drawing of the facts; fits the console's size.

    Args:
        has_keys: whether somebody can press one.
    """

    facts: TopFacts
    has_keys: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        height = options.height or options.size.height
        inner, is_ascii = width - FRAME_CELLS, options.ascii_only
        head = _head(self.facts, inner)
        foot = [_foot(self.facts, has_keys=self.has_keys)]
        room = height - FRAME_ROWS - len(head) - len(foot) - 1
        body = _body(self.facts, inner, room - MIN_EVENT_ROWS - 1, is_ascii)
        events = _events(self.facts, room - _rows(body) - 1)
        rule = Rule(style=DIM, characters="-" if is_ascii else "─")
        parts: list[RenderableType] = [*head, rule, *body, _titled("events", inner, is_ascii), *events, *foot]
        yield Panel(
            Group(*parts),
            box=ROUNDED,
            title=_title(self.facts),
            title_align="left",
            subtitle=Text(safe(self.facts.url), style="dim"),
            subtitle_align="right",
            width=width,
            height=height,
            padding=(0, 2),
            border_style=DIM,
        )


def _title(facts: TopFacts) -> Text:
    style = STATE_STYLES.get(facts.state, "bold yellow")
    name = safe(facts.status.get("name") or facts.run_id)
    return Text.assemble((name, HEAD), "  ", (facts.state, style), "  ", (safe(facts.run_id), DIM))


def _head(facts: TopFacts, width: int) -> list[RenderableType]:
    """Progress, pace, and what is wrong or under way."""
    status = facts.status
    step, total = status.get("step"), status.get("total_steps")
    left = f"{duration(facts.seconds_left)} left" if facts.seconds_left is not None else ""
    bar = Table.grid(expand=True, padding=(0, 2, 0, 0))
    bar.add_column(no_wrap=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    label = Text(f"step {number(step)}/{number(total)}", style=HEAD)
    bar.add_row(label, _progress_bar(float(step or 0), float(total or 1)), Text(left or " "))
    pace = [
        f"{number(status.get('step_seconds'), '{:.2f}')} s a step",
        f"{number(status.get('tokens_per_second'), '{:,.0f}')} tokens/s",
        f"policy {number(status.get('policy_version'))}",
        f"engines {number(status.get('rollout_policy_version'))}",
        f"checkpoint {safe((status.get('checkpoint') or {}).get('latest'))}",
    ]
    pace += [f"attempt {status['attempt']}"] if status.get("attempt", 1) != 1 else []
    pace += [_restarts(status["restarts_total"])] if status.get("restarts_total") else []
    lines: list[RenderableType] = [bar, _line(Text("  ".join(pace), style=DIM), width)]
    return lines + [_line(each, width) for each in _news(facts)]


def _progress_bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=total, completed=done, complete_style="cyan", finished_style="green")


def _restarts(count: Any) -> str:
    return f"{count} restart" + ("" if count == 1 else "s")


def _news(facts: TopFacts) -> Iterable[Text]:
    if facts.away_seconds is not None:
        yield Text(
            f"reconnecting: the control plane has not answered for {duration(facts.away_seconds)}", style="bold red"
        )
    pause = facts.status.get("pause")
    if pause is not None:
        view = PauseView()
        view.take({**pause, "request": {"mode": pause.get("mode"), "release": pause.get("release", "none")}})
        is_paused = facts.state == "paused"
        yield Text.assemble(
            ("paused" if is_paused else "pause  ", "bold cyan"), _kept(pause) if is_paused else view.line
        )
    if failure := facts.status.get("failure"):
        yield Text(f"failed  {safe(failure.get('role'))}: {safe(failure.get('cause'))}", style="bold red")
    elif facts.state in ("pending", "starting") and facts.status.get("message"):
        yield Text(safe(facts.status["message"]), style="yellow")


def _kept(pause: Any) -> Text:
    kept = safe(pause.get("checkpoint") or "no checkpoint")
    by = f" by {safe(pause['requested_by'])}" if pause.get("requested_by") else ""
    why = f": {safe(pause['reason'])}" if pause.get("reason") else ""
    return Text(f" ({safe(pause.get('mode'))}){by}{why}; {kept}, released {safe(pause.get('released'))}")


def _body(facts: TopFacts, width: int, room: int, is_ascii: bool) -> list[RenderableType]:
    """Curves and segments on the left, time, queues and workers on the right; in one column where it is narrow."""
    if width < WIDE - FRAME_CELLS:
        left = _left(facts, width, 1, is_ascii)
        both = left + _right(facts, width, room - len(left), is_ascii)
        return [_line(each, width) for each in both[: max(0, room)]]
    gap = 3
    left_width = (width - gap) // 2
    right_width = width - gap - left_width
    flat = len(_left(facts, left_width, 1, is_ascii))
    chart_rows = max(1, min(MAX_CHART_ROWS, 1 + (room - flat) // len(_CURVE_ROWS)))
    left = _left(facts, left_width, chart_rows, is_ascii)
    right = _right(facts, right_width, room, is_ascii)
    grid = Table.grid(padding=0)
    for cells in (left_width, gap, right_width):
        grid.add_column(width=cells, no_wrap=True, overflow="ellipsis")
    for row in range(min(max(len(left), len(right)), max(0, room))):
        grid.add_row(left[row] if row < len(left) else "", "", right[row] if row < len(right) else "")
    return [grid]


def _rows(body: Sequence[RenderableType]) -> int:
    return sum(each.row_count if isinstance(each, Table) else 1 for each in body)


def _left(facts: TopFacts, width: int, chart_rows: int, is_ascii: bool) -> list[Text]:
    return [*_curves(facts, width, chart_rows, is_ascii), *_segments(facts, width, is_ascii)]


def _curves(facts: TopFacts, width: int, rows: int, is_ascii: bool) -> list[Text]:
    room = width - LABEL_CELLS - VALUE_CELLS - 2
    lines = [_titled("learning", width, is_ascii)]
    for (label, name, form), style in zip(_CURVE_ROWS, _CURVE_STYLES, strict=True):
        curve = facts.curve(name)
        value = form.format(curve[-1]) if curve else ABSENT
        heads = [Text.assemble((f"{label:<{LABEL_CELLS}}", DIM), (f"{value:>{VALUE_CELLS}}", HEAD))]
        span = f"{form.format(min(curve))} to {form.format(max(curve))}" if curve else ""
        heads += [Text(f"{span:<{LABEL_CELLS + VALUE_CELLS}}", style=DIM)] if rows > 1 else []
        heads += [Text(" " * (LABEL_CELLS + VALUE_CELLS))] * (rows - 2)
        drawn = chart(curve, width=room, rows=rows, is_ascii=is_ascii)
        lines += [Text.assemble(head, "  ", (line, style)) for head, line in zip(heads, drawn, strict=True)]
    return [*lines, *_groups(facts, width)]


def _groups(facts: TopFacts, width: int) -> list[Text]:
    """How the last step's groups came out, in two lines at most."""
    found = facts.status.get("groups") or {}
    words = [f"{found['trained']} trained"] if "trained" in found else []
    words += [f"{count} {safe(name.replace('_', ' '))}" for name, count in found.items() if name != "trained" and count]
    for outcome in ("mixed", "all_correct", "all_incorrect"):
        count = facts.metric(f"groups_{outcome}_count")
        words += [] if count is None else [f"{count:.0f} {outcome.replace('_', ' ')}"]
    lines = wrapped([Text(each) for each in words] or [Text(ABSENT)], width - LABEL_CELLS)[:MAX_GROUP_ROWS]
    labels = [f"{'groups':<{LABEL_CELLS}}", *[" " * LABEL_CELLS] * (MAX_GROUP_ROWS - 1)]
    return [Text.assemble((label, DIM), line) for label, line in zip(labels, lines, strict=False)]


def _segments(facts: TopFacts, width: int, is_ascii: bool) -> list[Text]:
    lines = [_titled("segments, by class", width, is_ascii)]
    shares = facts.shares
    if shares is None:
        return [*lines, Text("none yet" if not facts.status.get("step") else "none in the last step", style=DIM)]
    bar, key = class_bar(shares, width=width, is_ascii=is_ascii)
    return [*lines, bar, *wrapped(key, width)]


def _right(facts: TopFacts, width: int, room: int, is_ascii: bool) -> list[Text]:
    lines = [*_step_time(facts, width, is_ascii), *_queues(facts, width, is_ascii)]
    return lines + _workers(facts, width, max(2, room - len(lines)), is_ascii)


def _step_time(facts: TopFacts, width: int, is_ascii: bool) -> list[Text]:
    phases, total = facts.phases, sum(facts.phases.values())
    lines = [_titled("where a step's time goes", width, is_ascii)]
    if total <= 0:
        return [*lines, Text("no step yet", style=DIM)]
    parts, key = [], list[Text]()
    for name, seconds in phases.items():
        sign, ascii_sign, color = _PHASES.get(name, _OTHER_PHASE)
        shown = ascii_sign if is_ascii else sign
        parts.append(Part(share=seconds / total, sign=shown, color=color))
        if seconds / total >= 0.005:
            named = f" {safe(name.replace('_', ' '))} {seconds / total:.0%}"
            key.append(Text.assemble((shown, color), named))
    return [*lines, stacked_bar(parts, width=width), *wrapped(key, width)]


def _queues(facts: TopFacts, width: int, is_ascii: bool) -> list[Text]:
    queues = facts.status.get("queues") or {}
    if not queues:
        return []
    lines = [_titled("queues", width, is_ascii)]
    for name, queue in queues.items():
        depth, capacity = int(queue.get("depth") or 0), int(queue.get("capacity") or 0)
        bounded = f"{depth}/{capacity}" if capacity else str(depth)
        label = f"{safe(name.replace('_', ' ')):<{QUEUE_CELLS}}"
        line = Text.assemble((label, DIM), (f"{bounded:>{DEPTH_CELLS}}  ", HEAD))
        if capacity:
            full = round(min(1.0, depth / capacity) * QUEUE_BAR)
            dots = ("#", ".") if is_ascii else ("━", "─")
            line.append(dots[0] * full, style="yellow" if depth >= capacity else "green")
            line.append(dots[1] * (QUEUE_BAR - full), style=DIM)
        lines.append(line)
    return lines


def _workers(facts: TopFacts, width: int, room: int, is_ascii: bool) -> list[Text]:
    """Each worker in a line, those first that are not ready or were not always; what has no room is counted."""
    lines = [_titled("workers", width, is_ascii)]
    if not facts.workers:
        counts = facts.status.get("workers") or {}
        said = ", ".join(f"{role} {each.get('ready')}/{each.get('total')}" for role, each in counts.items())
        return [*lines, Text(safe(said or "none yet"), style=DIM)]
    ordered = sorted(facts.workers, key=_worry)
    shown = ordered if len(ordered) < room else ordered[: max(0, room - 2)]
    for worker in shown:
        state, version, restarts = str(worker.get("state")), worker.get("policy_version"), worker.get("restarts")
        line = Text(f"{safe(worker.get('id')):<12} ").append(
            f"{safe(state):<8}", style="green" if state == "ready" else "bold yellow"
        )
        line.append(f" v{number(version)}" if version is not None else "", style=DIM)
        line.append(f"  {_restarts(restarts)}" if restarts else "", style="yellow")
        lines.append(line)
    if len(shown) < len(ordered):
        hidden = ordered[len(shown) :]
        ready = sum(1 for each in hidden if each.get("state") == "ready")
        lines.append(Text(f"and {len(hidden)} more, {ready} ready", style=DIM))
    return lines


def _worry(worker: Any) -> tuple[bool, bool, str]:
    return (worker.get("state") == "ready", not worker.get("restarts"), str(worker.get("role")))


def _events(facts: TopFacts, room: int) -> list[Text]:
    """The newest events, the newest last."""
    rows = max(0, min(room, MAX_EVENT_ROWS))
    newest = list(facts.events)[-rows:] if rows else []
    lines = [_event(each) for each in newest]
    return lines + [Text("")] * (max(0, room) - len(lines))


def _event(event: Any) -> Text:
    kind = safe(event.get("type"))
    style = "bold red" if "fail" in kind or "lost" in kind else "cyan"
    line = Text(f"{clock_time(event.get('at'))}  ", style=DIM, overflow="ellipsis", no_wrap=True)
    return line.append(f"{kind:<{KIND_CELLS}} ", style=style).append(safe(event.get("message")), style="default")


def _foot(facts: TopFacts, *, has_keys: bool) -> Text:
    if facts.question:
        return Text(facts.question, style="bold reverse yellow")
    line = Text(overflow="ellipsis", no_wrap=True)
    if has_keys:
        for key, action in (("p", "pause"), ("r", "resume")):
            can = action in facts.allowed_actions
            line.append(f"{key} ", style="bold cyan" if can else DIM).append(
                f"{action}  ", style="default" if can else DIM
            )
        line.append("q ", style="bold cyan").append("quit, the run goes on")
    return line.append(f"    {safe(facts.said)}" if facts.said else "", style="bold yellow")


def _titled(title: str, width: int, is_ascii: bool) -> Text:
    dash = "-" if is_ascii else "─"
    return Text(f"{title} ", style="bold").append(dash * max(0, width - cell_len(title) - 1), style=DIM)


def _line(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text
