"""What a rule finds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A rule that does not hold.

    Args:
        rule: its name; those of Grafana's own dashboard linter have its names.
        where: the dashboard's uid, and the panel, variable or annotation.
        found: what must hold, and what was found.
    """

    rule: str
    where: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.found}"
