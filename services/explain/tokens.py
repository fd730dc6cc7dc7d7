"""One explained group in a terminal: its responses with a line of marks below each line of text, and token tables.

Every colour has a mark beside it; a console without colour, or without a terminal, shows the marks alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from services.explain.group import ExplainedGroup, kept_share, unlike
from services.explain.marks import MARKS, verdict_sign, visible
from services.explain.summary import class_tokens, options_text
from services.explain.text import MAX_WIDTH, class_key
from services.explain.words import Reason, fraction, holders, reasons, words
from shaping.explain import TOKEN_CLASSES, HeldString

MAX_STRINGS = 8
MAX_PLACES = 10
MAX_TEXT = 60
TOKEN_CELLS = 14


def print_group(console: Console, group: ExplainedGroup, *, rows: Sequence[int], with_table: bool) -> None:
    """Print one group.

    Args:
        rows: responses to show.
        with_table: one line per token instead of running text.
    """
    is_ascii, width = console.options.ascii_only, min(MAX_WIDTH, console.width)
    record = group.record
    labels = "".join(f"   {name.replace('_', ' ')} {value}" for name, value in record.labels.items())
    prompt_id, where = (
        visible(text, is_ascii=is_ascii) for text in (record.prompt_id, f"{labels}   line {record.line}")
    )
    console.print(Text.assemble("\n", (prompt_id, "bold"), (where, "bright_black")), width=width)
    for prompt_line in record.prompt.splitlines():
        console.print(Text(visible(prompt_line, is_ascii=is_ascii)), width=width)
    kept = "" if group.kept_share is None else f"kept advantage {group.kept_share:.0%}, "
    facts = f"{int(record.correct.sum())} of {len(record.responses)} correct, {kept}{options_text(group.why.options)}"
    console.print(Text(f"\n{facts}", style="bright_black"), width=width)
    for line_of_key in class_key(class_tokens(group), width, is_ascii=is_ascii):
        console.print(line_of_key)
    for row in rows:
        console.print(_head(group, row, is_ascii), width=width)
        lines = _table(group, row, is_ascii) if with_table else _ruled_lines(group, row, width, is_ascii)
        for each in lines:
            console.print(each, soft_wrap=True)
    _print_strings(console, group, width, is_ascii)


def _head(group: ExplainedGroup, row: int, is_ascii: bool) -> Text:
    response, before, after = group.record.responses[row], group.before[row], group.after[row]
    style = "bold green" if response.correct else "bold red"
    verdict = f"{verdict_sign(response.correct, is_ascii=is_ascii)} {'correct' if response.correct else 'incorrect'}"
    threshold = group.why.analysis.support.thresholds[row]
    facts = [f"{len(response.tokens)} tokens", f"threshold {_nats(float(threshold))}"]
    if len(before):
        least, most = float(before.min()), float(before.max())
        facts.append(f"advantage {least:+.4f}" + (f" to {most:+.4f}" if most > least else ""))
    kept = kept_share([before], [after])
    facts += [] if kept is None else [f"kept {kept:.0%}"]
    head = Text.assemble(
        "\n", (f"rollout {row}  ", "bold"), (verdict, style), (f"  {', '.join(facts)}", "bright_black")
    )
    if response.hint:
        head.append(f"\nhint, not sampled: {visible(response.hint, is_ascii=is_ascii)}", style="bright_black")
    return head


def _ruled_lines(group: ExplainedGroup, row: int, width: int, is_ascii: bool) -> Iterator[Text]:
    """Lines of text with their marks below; the number in front is that of the line's first token."""
    tokens = group.record.responses[row].tokens
    gutter = len(str(len(tokens)))
    room = max(20, width - gutter - 3)
    bar = "|" if is_ascii else "\u2502"
    text, marks, first, used = Text(), Text(), 0, 0

    def lines() -> Iterator[Text]:
        yield Text.assemble((f"{first:>{gutter}} {bar} ", "bright_black"), text)
        yield Text.assemble((f"{'':>{gutter}} {bar} ", "bright_black"), marks)

    for index, (token, code) in enumerate(zip(tokens, group.why.class_codes[row].tolist(), strict=True)):
        mark = MARKS[TOKEN_CLASSES[code]]
        for piece in _pieces(visible(token, is_ascii=is_ascii), room):
            size = cell_len(piece)
            if used + size > room:
                yield from lines()
                text, marks, first, used = Text(), Text(), index, 0
            text.append(piece, style=mark.color)
            marks.append(mark.on(is_ascii=is_ascii) * size, style=mark.color)
            used += size
        if token.endswith("\n"):
            yield from lines()
            text, marks, first, used = Text(), Text(), index + 1, 0
    if used:
        yield from lines()


def _pieces(text: str, room: int) -> Iterator[str]:
    """A text in parts of at most `room` cells."""
    piece, used = "", 0
    for char in text:
        size = cell_len(char)
        if used + size > room:
            yield piece
            piece, used = "", 0
        piece, used = piece + char, used + size
    yield piece


def _table(group: ExplainedGroup, row: int, is_ascii: bool) -> Iterator[Text]:
    """One line per token; above each run of tokens with the same reason, the reason in words."""
    gutter = len(str(len(group.entropies[row])))
    header = (
        f"{'':{gutter}}  {'token':{TOKEN_CELLS}}  entropy  {'':4}  {'segment':11}  {'class':16}  x      before   after"
    )
    yield Text(header, style="bright_black")
    for reason, members in groupby(enumerate(reasons(group, row)), key=lambda pair: pair[1]):
        yield Text(f"\n{'':{gutter}}  {words(group, reason)}", style="italic")
        for position, _ in members:
            yield _token_line(group, row, position, reason, gutter, is_ascii)


def _token_line(group: ExplainedGroup, row: int, position: int, reason: Reason, gutter: int, is_ascii: bool) -> Text:
    why, segments = group.why, group.why.analysis.support.segments
    mark = MARKS[TOKEN_CLASSES[int(why.class_codes[row][position])]]
    token = set_cell_size(_quoted(group.record.responses[row].tokens[position], is_ascii), TOKEN_CELLS)
    segment = int(why.segment_indices[row][position])
    where = f"{segments.starts[segment]}-{segments.stops[segment] - 1}" if segment >= 0 else "-"
    level = "high" if why.supports[row][position] == 0 else "low"
    nats, before, after = (float(each[row][position]) for each in (group.entropies, group.before, group.after))
    line = Text(f"{position:>{gutter}}  ", style="bright_black")
    line.append(token, style=mark.color)
    line.append(f"  {_nats(nats):>7}  {level:4}  {where:11}  ")
    line.append(f"{mark.on(is_ascii=is_ascii)} {mark.name:14}", style=mark.color)
    line.append(f"  {fraction(group, reason):5}  {before:+.4f}  {after:+.4f}")
    if group.applied and unlike(group.applied[row][position], group.after[row][position]):
        line.append(f"  trainer had {float(group.applied[row][position]):+.4f}", style="bold")
    return line


def _print_strings(console: Console, group: ExplainedGroup, width: int, is_ascii: bool) -> None:
    """The strings that decide most tokens, and where they stand."""
    decided = Counter(np.concatenate(group.why.string_indices).tolist())
    decided.pop(-1, None)
    held = [(index, count) for index, count in decided.most_common() if _num_holders(group.why.strings[index]) > 1]
    if not held:
        return
    rule = ", by the order-free rule" if group.why.options.mode == "compat" else ""
    console.print(Text(f"\nstrings that decide most tokens{rule}", style="bold"), width=width)
    for index, count in held[:MAX_STRINGS]:
        quoted, facts = _string_lines(group, group.why.strings[index], count, is_ascii)
        console.print(quoted, Padding(facts, (0, 0, 0, 2)), width=width)
    if len(held) > MAX_STRINGS:
        console.print(Text(f"and {len(held) - MAX_STRINGS} more, see --html", style="bright_black"), width=width)


def _num_holders(string: HeldString) -> int:
    return string.num_correct + string.num_incorrect


def _string_lines(group: ExplainedGroup, string: HeldString, count: int, is_ascii: bool) -> tuple[Text, Text]:
    row, start = string.places[0].tolist()
    tokens = group.record.responses[row].tokens[start : start + len(string.token_ids)]
    quoted = _quoted("".join(tokens), is_ascii)
    shown = quoted if cell_len(quoted) <= MAX_TEXT else set_cell_size(quoted, MAX_TEXT - 3) + "..."
    places = [f"{row}@{start}" for row, start in string.places[:MAX_PLACES].tolist()]
    more = f" and {len(string.places) - MAX_PLACES} more" if len(string.places) > MAX_PLACES else ""
    who = holders(group, string.num_correct, string.num_incorrect)
    facts = f"{len(string.token_ids)} tokens, decides {count}; {who}; rollout@token {' '.join(places)}{more}"
    return Text(shown), Text(facts, style="bright_black")


def _quoted(text: str, is_ascii: bool) -> str:
    """A token with its edges seen."""
    return f'"{visible(text, is_ascii=is_ascii)}"'


def _nats(value: float) -> str:
    """Four digits that tell small entropies apart."""
    return f"{value:.4f}" if value >= 1e-3 or value == 0 else f"{value:.1e}"
