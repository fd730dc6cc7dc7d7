"""A group of the API (services/explain/view.py) in a terminal: text with a line of marks below each line."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from services.client.errors import EXIT_USAGE, CommandFailed
from services.client.http import JsonObject
from services.explain.marks import MARKS, Mark, verdict_sign, visible
from services.explain.text import MAX_WIDTH
from services.terminal_bars import wrapped
from shaping.explain import TokenClass


def print_group_view(console: Console, view: JsonObject, *, rollout: int | None = None) -> None:
    """Print the prompt, the key of the classes, and the responses.

    Args:
        rollout: this one alone; None for all.
    Raises:
        CommandFailed: there is no such rollout.
    """
    is_ascii, width = console.options.ascii_only, min(MAX_WIDTH, console.width)
    rollouts = view["rollouts"]
    if rollout is not None and rollout >= len(rollouts):
        raise CommandFailed(f"--rollout must be in 0 to {len(rollouts) - 1}, got {rollout}", exit_code=EXIT_USAGE)
    head = f"   step {view['step']}" if view.get("step") is not None else ""
    console.print(Text.assemble((visible(str(view["prompt_id"]), is_ascii=is_ascii), "bold"), (head, "bright_black")))
    for line in str(view["prompt"]).splitlines():
        console.print(Text(visible(line, is_ascii=is_ascii)), width=width)
    kept = "" if view.get("kept") is None else f", kept advantage {view['kept']:.0%}"
    console.print(Text(f"\n{view['correct']} of {view['size']} correct{kept}", style="bright_black"))
    for line_of_key in wrapped(_key(view, is_ascii), width):
        console.print(line_of_key)
    for row in range(len(rollouts)) if rollout is None else [rollout]:
        console.print(_head(row, rollouts[row], is_ascii), width=width)
        marks = marks_of(view, rollouts[row])
        texts = [visible(view["tokens"][token], is_ascii=is_ascii) for token in rollouts[row]["tokens"]]
        for each in ruled_lines(texts, marks, width=width, is_ascii=is_ascii):
            console.print(each, soft_wrap=True)


def marks_of(view: JsonObject, rollout: JsonObject) -> list[Mark]:
    """The mark of each token of a rollout."""
    runs: Sequence[int] = rollout["reasons"]
    marks: list[Mark] = []
    for reason, times in zip(runs[::2], runs[1::2], strict=True):
        marks += [MARKS[TokenClass(view["reasons"][reason]["kind"])]] * times
    return marks


def ruled_lines(texts: Sequence[str], marks: Sequence[Mark], *, width: int, is_ascii: bool) -> Iterator[Text]:
    """Lines of text, each with its marks below; in front the number of the line's first token.

    Args:
        texts: of tokens, one mark each.
        width: cells of a line, its number included.
    """
    gutter = len(str(len(texts)))
    room = max(20, width - gutter - 3)
    bar = "|" if is_ascii else "│"
    pieces = [
        (index, piece, mark)
        for index, (text, mark) in enumerate(zip(texts, marks, strict=True))
        for piece in chop_cells(text, room)
    ]
    while pieces:
        used, taken = 0, 0
        while taken < len(pieces) and used + cell_len(pieces[taken][1]) <= room:
            used += cell_len(pieces[taken][1])
            taken += 1
        line, pieces = pieces[:taken], pieces[taken:]
        text = Text(f"{line[0][0]:>{gutter}} {bar} ", style="bright_black")
        below = Text(f"{'':>{gutter}} {bar} ", style="bright_black")
        for _, piece, mark in line:
            text.append(piece, style=mark.color)
            below.append(mark.on(is_ascii=is_ascii) * cell_len(piece), style=mark.color)
        yield text
        yield below


def _key(view: JsonObject, is_ascii: bool) -> list[Text]:
    entries = []
    for entry, share in zip(view["classes"], view["shares"], strict=True):
        mark = MARKS[TokenClass(entry["key"])]
        entries.append(Text.assemble((mark.on(is_ascii=is_ascii), mark.color), f" {mark.name} {share:.0%}"))
    return entries


def _head(row: int, rollout: Any, is_ascii: bool) -> Text:
    is_correct = bool(rollout["correct"])
    verdict = f"{verdict_sign(is_correct, is_ascii=is_ascii)} {'correct' if is_correct else 'incorrect'}"
    facts = f"  {len(rollout['tokens'])} tokens"
    facts += "" if rollout.get("kept") is None else f", kept {rollout['kept']:.0%}"
    style = "bold green" if is_correct else "bold red"
    return Text.assemble("\n", (f"rollout {row}  ", "bold"), (verdict, style), (facts, "bright_black"))
