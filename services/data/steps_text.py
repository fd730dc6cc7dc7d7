"""What `lessrl data steps` found, in a terminal, and the same lines without colour where there is none."""

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.data.report import SamplePrompt
from services.data.steps import SourceSteps, StepCount, StepsReport, StepsRequest, make_report
from services.explain.marks import visible

MAX_WIDTH = 110
MAX_RATES = 8
MAX_TEXT = 400


def show_steps(request: StepsRequest, console: Console) -> int:
    """Read, judge, show.

    Raises:
        UserError: the source, or what is asked of it, cannot work.
    """
    report = make_report(request)
    if request.as_json:
        console.print_json(data=report.as_dict(), ensure_ascii=True, allow_nan=False)
    else:
        print_steps(console, report)
    return 0


def print_steps(console: Console, report: StepsReport) -> None:
    """Every source: how many problems are usable, their numbers of steps, every refusal, and some problems."""
    width, page = min(MAX_WIDTH, console.width), _Page(is_ascii=console.options.ascii_only)
    for source in report.sources:
        for part in page.source(source):
            console.print(part, width=width)
        console.print()


class _Page:
    """Parts of the page. Text of the data passes through `text` alone, which leaves no control character."""

    def __init__(self, *, is_ascii: bool) -> None:
        self._is_ascii = is_ascii

    def text(self, words: str, style: str = "") -> Text:
        shown = visible(words, is_ascii=self._is_ascii)
        return Text(shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}...", style=style)

    def source(self, source: SourceSteps) -> Iterable[Text | Padding]:
        yield self.text(source.label, "bold cyan")
        style = "green" if source.num_usable == source.num_problems else "bold yellow"
        filtered = f"; a filter leaves {source.num_filtered:,} more out" if source.num_filtered else ""
        words = f"{source.num_usable:,} of {source.num_problems:,} problems have usable steps"
        yield _indented(Text.assemble((words, style), filtered))
        if source.longest_hints is not None:
            found = source.longest_hints.quantiles
            words = f"longest hint: {found['median']:,} characters in the median, {found['max']:,} at most"
            yield _indented(Text(words))
        if source.counts:
            yield _indented(self._counts(source.counts, source.num_usable))
        if source.refused:
            yield Text("refused", style="bold")
            table = _grid()
            for each in source.refused:
                table.add_row(f"{source.unit} {each.number}", self.text(each.reason))
            yield _indented(table)
        for sample in source.samples:
            yield _indented(self._sample(sample, source.unit))

    def _counts(self, counts: Iterable[StepCount], num_usable: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", pad_edge=False)
        for name, justify in (("steps", "right"), ("problems", "right"), ("share", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        table.add_column("reachable rates", overflow="fold")
        for each in counts:
            share = f"{100 * each.num_problems / num_usable:.1f} %"
            table.add_row(f"{each.num_steps}", f"{each.num_problems:,}", share, _rates(each.rates))
        return table

    def _sample(self, sample: SamplePrompt, unit: str) -> Table:
        table = _grid()
        table.add_row(f"{unit} {sample.number}", self.text(sample.prompt_id, "bold"))
        for message in sample.messages:
            table.add_row(self.text(message["role"]), self.text(message["content"]))
        for number, step in enumerate(sample.solution_steps, start=1):
            is_last = number == len(sample.solution_steps)
            table.add_row(f"step {number}", self.text(step, "bright_black" if is_last else ""))
        table.add_row("answer", self.text(sample.reference_answer, "green"))
        return table


def _rates(rates: tuple[float, ...]) -> str:
    """All of few; of many the first, and the last."""
    shown = [f"{rate:.2g}" for rate in rates]
    return ", ".join(shown if len(shown) <= MAX_RATES else [*shown[:3], "...", shown[-1]])


def _indented(part: Text | Table) -> Padding:
    return Padding(part, (0, 0, 1, 2), expand=False)


def _grid() -> Table:
    """A dim column, and one whose long texts go on in the next line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(overflow="fold")
    return table
