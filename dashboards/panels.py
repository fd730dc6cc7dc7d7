"""Short ways to the queries and panels that come again and again."""

from collections.abc import Mapping
from typing import TypedDict, Unpack

from dashboards.model import Kind, Limit, Panel, Query, Unit
from dashboards.promql import increase, mean, mix, quantile, share, spread


class Looks(TypedDict, total=False):
    """What a panel of lines may look like, see model.Panel."""

    width: int
    limits: tuple[Limit, ...]
    colours: Mapping[str, str]
    axis: str
    minimum: float
    maximum: float
    is_stacked: bool


def per_run(expression: str, name: str = "") -> Query:
    """One line per run, with a name behind the run's where a panel has several."""
    return Query(expression, f"{{{{run_id}}}} {name}".strip())


def per_run_and(label: str, expression: str) -> Query:
    """One line per run and value of a label."""
    return Query(expression, f"{{{{run_id}}}} {{{{{label}}}}}")


def mean_and_tail(family: str) -> tuple[Query, ...]:
    """A histogram's mean, and what 19 of 20 values stay below."""
    return (per_run(mean(family), "mean"), per_run(quantile(0.95, family), "p95"))


def tail_by(family: str, label: str) -> tuple[Query, ...]:
    """What 19 of 20 values stay below, by a label."""
    return (per_run_and(label, quantile(0.95, family, label)),)


def lines(title: str, description: str, unit: Unit, *queries: Query, **looks: Unpack[Looks]) -> Panel:
    """Lines over time."""
    return Panel(title=title, description=description, unit=unit, queries=queries, **looks)


def number(
    title: str, description: str, unit: Unit, expression: str, *, limits: tuple[Limit, ...] = (), width: int = 3
) -> Panel:
    """The last value of each run."""
    return Panel(
        title=title,
        description=description,
        unit=unit,
        queries=(per_run(expression),),
        kind=Kind.STAT,
        limits=limits,
        width=width,
        height=4,
    )


def mixture(title: str, description: str, family: str, label: str, colours: Mapping[str, str], **labels: str) -> Panel:
    """What part each value of a label has, as areas that add up to 1; the chosen runs together."""
    return Panel(
        title=title,
        description=description,
        unit=Unit.RATIO,
        queries=(Query(mix(family, label, **labels), f"{{{{{label}}}}}"),),
        colours=colours,
        is_stacked=True,
        minimum=0,
        maximum=1,
    )


def share_lines(title: str, description: str, family: str, label: str, of: str, colours: Mapping[str, str]) -> Panel:
    """What part of a total each value of a label has, as lines."""
    return lines(
        title, description, Unit.RATIO, per_run_and(label, share(family, label, of)), colours=colours, minimum=0
    )


def density(
    title: str, description: str, unit: Unit, family: str, *, axis: str = "", width: int = 8, **labels: str
) -> Panel:
    """What part of the values lies in each range, as colour; the chosen runs together."""
    return Panel(
        title=title,
        description=description,
        unit=unit,
        queries=(Query(spread(family, **labels), "{{le}}"),),
        kind=Kind.HEATMAP,
        axis=axis,
        width=width,
    )


def rare(title: str, description: str, family: str, *by: str, width: int = 8, **labels: str) -> Panel:
    """How often something happened that should not, in the window before each point."""
    legend = " ".join(f"{{{{{label}}}}}" for label in ("run_id", *by))
    return Panel(
        title=title,
        description=description,
        unit=Unit.COUNT,
        queries=(Query(increase(family, *by, **labels), legend),),
        width=width,
        minimum=0,
        is_rare=True,
    )
