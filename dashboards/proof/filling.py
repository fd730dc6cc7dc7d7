"""Puts values in the place of Grafana's variables, as Grafana does before it asks Prometheus."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LEGEND = re.compile(r"{{\s*(\w+)\s*}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time that a dashboard shows.

    Args:
        start, end: seconds since the epoch.
        step: between two points, in whole seconds.
        scrape: interval of the scrapes, in whole seconds.
    """

    start: float
    end: float
    step: int
    scrape: int

    @property
    def rate_interval(self) -> int:
        """Grafana's `$__rate_interval` in seconds: wide enough for a rate at any of the points."""
        return max(self.step + self.scrape, 4 * self.scrape)


def filled(expression: str, window: Window, values: Mapping[str, str]) -> str:
    """An expression or query that Prometheus can read.

    Args:
        values: of the dashboard's variables, as patterns.
    Raises:
        ValueError: a variable without a value.
    """
    built_in = {
        "__rate_interval": f"{window.rate_interval}s",
        "__interval": f"{window.step}s",
        "__range": f"{max(1, round(window.end - window.start))}s",
    }

    def value(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(2)
        if name not in built_in and name not in values:
            raise ValueError(f"a query may use the dashboard's variables only, found ${name} in {expression}")
        return built_in[name] if name in built_in else values[name]

    return _NAME.sub(value, expression)


def named(legend: str, labels: Mapping[str, str]) -> str:
    """A series' name; a label that it has not is empty, and without a template all of them are the name."""
    if not legend:
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return _LEGEND.sub(lambda found: labels.get(found.group(1), ""), legend).strip()
