"""The results of a study as Markdown: the judged differences, the measures of each arm, and what to keep in mind."""

from collections.abc import Iterator, Sequence

from services.study.measures import ACCURACY, OF_EVALUATIONS, SECONDS, SHORT, TOKENS
from services.study.results import StudyResults
from services.study.seed_means import SeedMean
from shaping.evaluation.paired_seeds import Interval, PairedDifference

OPEN = "open"


def results_table(results: StudyResults) -> str:
    """The whole page, with a heading."""
    return "\n".join([f"# {results.name}", "", *_judged(results), "", *_measured(results), "", *_notes(results), ""])


def _judged(results: StudyResults) -> Iterator[str]:
    headings = [
        "arm",
        "seeds",
        f"{results.decides}, %",
        f"difference to {results.baseline} at equal steps",
        "verdict",
        f"difference at {results.num_tokens:,.0f} tokens",
        "verdict",
    ]
    yield from _rows(headings, _judged_rows(results))


def _judged_rows(results: StudyResults) -> Iterator[list[str]]:
    for name, arm in results.arms.items():
        found = results.comparisons.get(name)
        row = [name, str(len(arm.seeds)), shown(results.decides, arm.measures[results.decides])]
        for each in (found.at_steps, found.at_tokens) if found else (None, None):
            row += [_difference(each), each.verdict.value] if each else ["", "baseline" if not found else ""]
        yield row


def _difference(found: PairedDifference) -> str:
    interval = _interval(found.interval, 100, "+.1f")
    return f"{100 * found.value:+.1f} {interval}, corrected {_interval(found.corrected, 100, '+.1f')}"


def _measured(results: StudyResults) -> Iterator[str]:
    names = [name for name in results.measures if any(name in each.measures for each in results.arms.values())]
    headings = ["arm", *(heading(name) for name in names)]
    rows = (
        [arm, *(shown(name, each.measures[name]) if name in each.measures else "" for name in names)]
        for arm, each in results.arms.items()
    )
    yield from _rows(headings, rows)


def heading(measure: str) -> str:
    """Of a column, with its unit."""
    if measure in SHORT:
        return SHORT[measure]
    return f"{measure}, %" if _is_share(measure) else measure


def shown(measure: str, found: SeedMean) -> str:
    """A mean in its interval, in the column's unit."""
    scale, digits = _units(measure)
    return f"{scale * found.value:{digits}} {_interval(found.interval, scale, digits)}"


def _units(measure: str) -> tuple[float, str]:
    if _is_share(measure):
        return 100, ".1f"
    return (1, ",.0f") if measure in (TOKENS, SECONDS) else (1, ".3f")


def _is_share(measure: str) -> bool:
    return measure == ACCURACY or measure in OF_EVALUATIONS


def _interval(found: Interval, scale: float, digits: str) -> str:
    low, high = (OPEN if each is None else f"{scale * each:{digits}}" for each in (found.low, found.high))
    return f"[{low}, {high}]"


def _notes(results: StudyResults) -> Iterator[str]:
    count = results.num_comparisons
    yield (
        "Means over seeds in 95 % intervals (Student's t); differences are paired by seed, in points of "
        f"{results.decides}, in bootstrap-t intervals. {count} comparisons are judged at once, so a verdict needs the "
        f"corrected interval, of {100 * (1 - 0.05 / count):.2f} %, to leave out 0; where it holds 0 no difference is "
        "shown, which does not say that there is none. Nothing but these comparisons is judged."
    )
    told = [*_prompt_notes(results), *results.notes, *(f"failed: {name}: {cause}" for name, cause in results.failures)]
    if told:
        yield ""
        yield from (f"- {each}" for each in told)


def _prompt_notes(results: StudyResults) -> Iterator[str]:
    baseline = results.arms.get(results.baseline)
    for name, arm in results.arms.items():
        pairs = len(set(arm.seeds) & set(baseline.seeds)) if baseline else 0
        if arm.num_same_prompts < pairs:
            yield (
                f"{name}: the same prompts in the same order as {results.baseline} in {arm.num_same_prompts} of "
                f"{pairs} pairs of runs"
            )


def _rows(headings: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    for row in (list(headings), ["---"] * len(headings), *rows):
        yield f"| {' | '.join(row)} |"
