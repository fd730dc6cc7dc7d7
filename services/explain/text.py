"""A file of explained groups on one screen of a terminal.

Every colour has a mark beside it; a console without colour, or without a terminal, shows the marks alone.
"""

from collections.abc import Sequence

from rich.box import ASCII, ROUNDED
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from services.explain.marks import MARKS, visible
from services.explain.summary import Summary
from shaping.explain import TOKEN_CLASSES

MAX_WIDTH = 100
BAR_WIDTH = 60
PADDING = 2


def print_summary(console: Console, title: str, summary: Summary) -> None:
    """The file on one screen."""
    is_ascii = console.options.ascii_only
    tokens = [summary.class_tokens[each] for each in TOKEN_CLASSES]
    body: list[RenderableType] = [
        _figures(summary, is_ascii),
        Text(),
        class_bar(tokens, BAR_WIDTH, is_ascii=is_ascii),
        *class_key(tokens, min(MAX_WIDTH, console.width) - 2 * (1 + PADDING), is_ascii=is_ascii),
        Text(),
        *(Text(visible(fact, is_ascii=is_ascii), style="bright_black") for fact in summary.facts),
        *_warnings(summary, is_ascii),
    ]
    panel = Panel(
        Group(*body),
        title=Text(visible(title, is_ascii=is_ascii), style="bold"),
        title_align="left",
        box=ASCII if is_ascii else ROUNDED,
        width=min(MAX_WIDTH, console.width),
        padding=(1, PADDING),
        border_style="bright_black",
    )
    console.print(panel)


def print_warnings(console: Console, summary: Summary) -> None:
    """What a reader must not miss, where the summary itself is not shown."""
    for line in _warnings(summary, console.options.ascii_only):
        console.print(line, width=min(MAX_WIDTH, console.width))


def class_bar(tokens: Sequence[int], width: int, *, is_ascii: bool) -> Text:
    """Tokens by class as a bar of marks.

    Args:
        tokens: in the order of `TOKEN_CLASSES`.
    """
    bar, edge, cells = Text(), 0, 0
    for each, mark in MARKS.items():
        edge += tokens[TOKEN_CLASSES.index(each)]
        size = round(edge * width / max(1, sum(tokens))) - cells
        cells += size
        bar.append(mark.on(is_ascii=is_ascii) * size, style=mark.color)
    return bar


def class_key(tokens: Sequence[int], width: int, *, is_ascii: bool) -> list[Text]:
    """What each mark stands for, with its share of the tokens, in lines of at most `width` cells."""
    lines = [Text()]
    for each, mark in MARKS.items():
        share = tokens[TOKEN_CLASSES.index(each)] / max(1, sum(tokens))
        part = Text.assemble((mark.on(is_ascii=is_ascii), mark.color), f" {mark.name} {share:.0%}   ")
        if lines[-1].cell_len + part.cell_len - 3 > width:
            lines.append(Text())
        lines[-1].append_text(part)
    return lines


def _warnings(summary: Summary, is_ascii: bool) -> list[Text]:
    return [
        Text.assemble(("! ", "bold yellow"), (visible(warning, is_ascii=is_ascii), "bold"))
        for warning in summary.warnings
    ]


def _figures(summary: Summary, is_ascii: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(style="bold", no_wrap=True, justify="right")
    table.add_column()
    outcomes = (
        f"{summary.num_mixed} mixed, {summary.num_all_correct} all correct, {summary.num_all_incorrect} all wrong"
    )
    table.add_row("groups", f"{summary.num_groups:,}", outcomes)
    table.add_row("rollouts", f"{summary.num_rollouts:,}", f"{summary.num_tokens:,} tokens")
    table.add_row("accuracy", f"{summary.num_correct / summary.num_rollouts:.1%}", "")
    ties = f"of the tokens; {summary.share(summary.num_ties):.1%} lie exactly at their threshold"
    table.add_row("low entropy", f"{summary.share(summary.num_low):.1%}", ties)
    kept = "-" if summary.kept is None else f"{summary.kept:.1%}"
    table.add_row("kept advantage", kept, "of its absolute mass")
    first, *others = summary.overlaps.items()
    table.add_row(
        f"overlap {first[0]}", _share(first[1]), "   ".join(f"{name} {_share(value)}" for name, value in others)
    )
    for label, leaders in (("most shared", summary.most_shared), ("most correct-only", summary.most_correct_only)):
        shown = [f"{visible(name, is_ascii=is_ascii)} {share:.0%}" for name, share in leaders]
        table.add_row(label, "" if shown else "-", Text(", ".join(shown)))
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
