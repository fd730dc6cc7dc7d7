"""Dashboards with one thing changed, for tests of rules."""

import copy
from collections.abc import Callable

from dashboards.build import dashboards
from dashboards.model import Json


def changed(change: Callable[[Json], None], uid: str = "lessrl-overview") -> Json:
    """A dashboard of ours after a change in place."""
    copied: Json = copy.deepcopy(dashboards()[uid])
    change(copied)
    return copied


def panel(dashboard: Json, title: str) -> Json:
    """The panel of that title."""
    found: Json = next(each for each in dashboard["panels"] if each["title"] == title)
    return found


def with_expression(expression: str, title: str = "Reward") -> Json:
    """The overview, where a panel asks for this instead, and names it without labels."""

    def change(dashboard: Json) -> None:
        panel(dashboard, title)["targets"][0].update(expr=expression, legendFormat="it")

    return changed(change)
