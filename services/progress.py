"""The live view of a run in a terminal, and one plain line per report where there is no terminal.

Takes the run's reports; knows neither Ray nor HTTP.
"""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.box import ROUNDED, SIMPLE
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.history import RunSummary
from services.progress_facts import ProgressFacts, duration, printable
from services.reports import EvaluationReport, RunDescription, RunEvent, RunReport, RunState, StepReport
from services.run_dir import README_FILE
from services.terminal_bars import CLASS_MARKS, class_bar, spark

MAX_WIDTH = 100
BAR_WIDTH = 40
LABEL_WIDTH, VALUE_WIDTH = 17, 7
SPARK_WIDTH = 24
REFRESH_PER_SECOND = 4

_STATE_STYLES = {
    RunState.RUNNING: "green",
    RunState.COMPLETED: "bold green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "bold yellow",
}


class Progress:
    """Shows a run while it goes. Use as a context: inside it a terminal is redrawn in place.

    Args:
        run_dir: named at the end.
        api_address: of the control plane.
        console: standard output unless given.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        description: RunDescription,
        *,
        run_dir: Path,
        api_address: str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console()
        self._facts = ProgressFacts(description, clock=clock)
        self._run_dir = run_dir
        self._api_address = api_address
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        description = self._facts.description
        self._print(f"{description.name}: {description.total_steps} steps on {description.model}")
        self._print(f"run directory {self._run_dir}, control plane {self._api_address}")
        self._print(f"  page        {self._api_address}/ in a browser: live curves, groups, pause and resume")
        self._print(f"  metrics     {self._api_address}/metrics for Prometheus")
        self._print("  dashboards  dashboards/json for Grafana; lessrl dashboards export DIR writes them elsewhere")
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=REFRESH_PER_SECOND)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def show(self, report: RunReport) -> None:
        """Take in a report; prints its line where nothing is redrawn."""
        with self._lock:
            self._facts.take(report)
        if not self._console.is_terminal:
            self._print(self._line(report))

    def finish(self, summary: RunSummary) -> None:
        """Stop redrawing and print how it went."""
        self._stop()
        self._console.print(_summary_table(summary, self._run_dir))

    def _print(self, line: str) -> None:
        """One line, however long: a log's reader wraps it, not we."""
        self._console.print(Text(line), soft_wrap=True, no_wrap=True, crop=False, overflow="ignore", highlight=False)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __rich__(self) -> RenderableType:
        with self._lock:
            return self._panel()

    def _line(self, report: RunReport) -> str:
        if isinstance(report, StepReport):
            return _step_line(self._facts)
        if isinstance(report, EvaluationReport):
            return _evaluation_line(report)
        return _event_line(self._facts, report)

    def _panel(self) -> Panel:
        facts = self._facts
        body: list[RenderableType] = [_progress(facts), Text()]
        body += [_startup(facts)] if facts.is_starting else [_numbers(facts, is_ascii=self._is_ascii)]
        if facts.last_event is not None:
            message = f"{printable(facts.last_event.message)} ({duration(facts.seconds_since_event)} ago)"
            last = Text.assemble(("last event  ", "bright_black"), message, overflow="ellipsis", no_wrap=True)
            body += [Text(), last]
        title = Text.assemble((facts.description.name, "bold"), "  ", (facts.state.value, _style(facts.state)))
        return Panel(
            Group(*body),
            title=title,
            title_align="left",
            subtitle=Text(self._api_address, style="dim"),
            subtitle_align="right",
            box=ROUNDED,
            width=min(MAX_WIDTH, self._console.width),
            padding=(1, 2),
            border_style="bright_black",
        )

    @property
    def _is_ascii(self) -> bool:
        return self._console.options.ascii_only


def _style(state: RunState) -> str:
    return _STATE_STYLES.get(state, "yellow")


def _progress(facts: ProgressFacts) -> RenderableType:
    total = facts.description.total_steps
    done = facts.steps[-1].step if facts.steps else 0
    left = facts.seconds_left
    row = Table.grid(expand=True, padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    eta = f"{duration(left)} left" if left is not None else ""
    row.add_row(Text(f"step {done}/{total}", style="bold"), ProgressBar(total=total, completed=done), Text(eta))
    return row


def _startup(facts: ProgressFacts) -> RenderableType:
    """Every worker and what it does; what is being waited for, and for how long."""
    table = Table.grid(padding=(0, 3, 0, 0))
    for justify in ("left", "left", "right", "left"):
        table.add_column(no_wrap=True, overflow="ellipsis", justify=justify)
    for name, worker in facts.workers.items():
        is_ready = worker.report.state == "ready"
        what = printable(worker.report.description) + ("" if is_ready else " ...")
        took = duration(facts.worker_seconds(worker))
        state = Text(worker.report.state, style="green" if is_ready else "yellow")
        table.add_row(Text(name), state, Text(took), Text(what, style="dim" if is_ready else ""))
    waited = Text(f"starting for {duration(facts.seconds_since_start)}", style="dim")
    return Group(table, waited) if facts.workers else waited


def _numbers(facts: ProgressFacts, *, is_ascii: bool) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bright_black", no_wrap=True, min_width=LABEL_WIDTH)
    table.add_column(no_wrap=True, justify="right", min_width=VALUE_WIDTH)
    table.add_column(no_wrap=True, overflow="ellipsis")
    held_out = [report.accuracy for report in facts.evaluations]
    started = f"  from {held_out[0]:.1%}" if len(held_out) > 1 else ""
    table.add_row("held-out accuracy", _bold(held_out[-1:], "{:.1%}"), _spark(held_out, is_ascii) + started)
    for label, name, form in (
        ("training accuracy", "reward_correct_share", "{:.1%}"),
        ("reward", "reward_total_value", "{:.3f}"),
        ("entropy (nats)", "rollout_entropy_nats", "{:.3f}"),
        ("response tokens", "rollout_response_tokens", "{:.1f}"),
    ):
        curve = facts.curve(name)
        table.add_row(label, _bold(curve[-1:], form), _spark(curve, is_ascii))
    table.add_row("trained groups", _bold(_trained(facts), "{:d}"), Text(_groups_words(facts)))
    speed, pace = facts.tokens_per_second, facts.seconds_per_step
    per_step = f"tokens/s, {pace:.2f} s a step" if pace is not None else ""
    table.add_row("speed", _bold([] if speed is None else [speed], "{:,.0f}"), per_step)
    return Group(table, Text(), _segments(facts, is_ascii=is_ascii))


def _bold(values: Iterable[float], form: str) -> Text:
    """The last value; a dash where nothing was measured."""
    found = list(values)
    return Text(form.format(found[-1]) if found else "-", style="bold")


def _trained(facts: ProgressFacts) -> list[int]:
    return [facts.steps[-1].groups.get("trained", 0)] if facts.steps else []


def _groups_words(facts: ProgressFacts) -> str:
    """How the last step's groups came out."""
    words = []
    for outcome in ("mixed", "all_correct", "all_incorrect"):
        count = facts.metric(f"groups_{outcome}_count")
        if count is not None:
            words.append(f"{count:.0f} {outcome.replace('_', ' ')}")
    words += [f"{count} dropped ({reason.replace('_', ' ')})" for reason, count in facts.dropped.items()]
    return ", ".join(words)


def _segments(facts: ProgressFacts, *, is_ascii: bool) -> Text:
    """Segment tokens of the last step by class: a bar, and its key with shares."""
    shares = facts.class_shares
    text = Text("segments", style="bright_black")
    if shares is None:
        return text.append("  none yet" if not facts.steps else "  none in the last step")
    bar, key = class_bar(shares, width=BAR_WIDTH, is_ascii=is_ascii)
    return text.append("  ").append_text(bar).append("\n").append_text(Text("  ").join(key))


def _spark(values: list[float], is_ascii: bool) -> str:
    return spark(values, width=SPARK_WIDTH, is_ascii=is_ascii)


def _step_line(facts: ProgressFacts) -> str:
    step = facts.steps[-1]
    parts = [f"step {step.step}/{step.total_steps}"]
    if facts.evaluations:
        parts.append(f"held-out {facts.evaluations[-1].accuracy:.1%}")
    for label, name, form in (
        ("train", "reward_correct_share", "{:.1%}"),
        ("reward", "reward_total_value", "{:.3f}"),
        ("entropy", "rollout_entropy_nats", "{:.3f} nats"),
    ):
        value = facts.metric(name)
        if value is not None:
            parts.append(f"{label} {form.format(value)}")
    shares = facts.class_shares
    if shares is not None:
        named = " ".join(f"{mark.name} {shares[each]:.0%}" for each, mark in CLASS_MARKS.items())
        parts.append(f"segments {named}")
    if facts.dropped:
        parts.append("dropped " + " ".join(f"{reason} {count}" for reason, count in facts.dropped.items()))
    if facts.tokens_per_second is not None:
        parts.append(f"{facts.tokens_per_second:.0f} tokens/s")
    parts.append(f"{step.step_seconds:.2f} s/step")
    if facts.seconds_left is not None:
        parts.append(f"{duration(facts.seconds_left)} left")
    return "  ".join(parts)


def _evaluation_line(report: EvaluationReport) -> str:
    undecided = report.num_answers - report.num_decided
    without = f", {undecided} without a verdict" if undecided else ""
    return f"held-out accuracy {report.accuracy:.1%} after step {report.step} ({report.num_problems} problems{without})"


def _event_line(facts: ProgressFacts, event: RunEvent) -> str:
    workers = (f"{each.worker_id}: {each.state}, {each.description}" for each in event.workers)
    parts = (duration(facts.seconds_since_start), event.state.value, event.message, *workers)
    return "  ".join(printable(part) for part in parts)


def _summary_table(summary: RunSummary, run_dir: Path) -> RenderableType:
    table = Table(box=SIMPLE, show_header=False, title=f"{summary.name}: {summary.status}", title_justify="left")
    table.add_column(style="bright_black")
    table.add_column()
    rows: list[tuple[str, str | None]] = [
        ("steps", f"{summary.steps} of {summary.total_steps}"),
        ("held-out accuracy", _change(summary.accuracy_first, summary.accuracy_last)),
        ("start to first step", _seconds(summary.seconds_to_first_step)),
        ("training", _seconds(summary.seconds_training)),
        ("tokens sampled", None if summary.tokens_generated is None else f"{summary.tokens_generated:,}"),
        ("groups", ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in summary.groups.items() if n) or None),
        ("policy version", str(summary.policy_version)),
        ("run directory", f"{run_dir} ({README_FILE} says how to look further)"),
    ]
    for name, value in rows:
        table.add_row(name, Text(value if value is not None else "-"))
    if summary.failure is None:
        return table
    group = f" (group {summary.failure.group_id})" if summary.failure.group_id else ""
    why = Text(printable(f"{summary.failure.role}{group}: {summary.failure.cause}"), style="bold red")
    return Group(table, why)


def _change(first: float | None, last: float | None) -> str | None:
    return None if first is None or last is None else f"{first:.1%} to {last:.1%}"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else duration(seconds)
