"""What a PromQL expression asks for: its selectors, and the labels that its aggregations keep."""

import re
from dataclasses import dataclass

import promql_parser as promql

_RATES = frozenset({"rate", "irate", "increase"})
_VARIABLE = re.compile(r"\$(?:\{\w+(?::\w+)?\}|\w+)")
_BUILT_IN = {"$__rate_interval": "60s", "$__interval": "15s", "$__range": "3h"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One selector of an expression.

    Args:
        matchers: (label, operator, value), with Grafana's variables in the values.
        has_rate: it is the argument of rate, irate or increase.
        kept: labels that the aggregations around it name.
        says_by: none of these aggregations says without.
    """

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    has_rate: bool
    kept: frozenset[str]
    says_by: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An expression, read.

    Args:
        joined: labels on which two sides are matched.
    """

    selectors: tuple[Selector, ...]
    joined: frozenset[str]


def read(expression: str) -> Query:
    """Read an expression with Grafana's variables in it.

    Raises:
        ValueError: it is no PromQL.
    """
    hidden: list[str] = []

    def hide(found: re.Match[str]) -> str:
        text = found.group(0)
        if text in _BUILT_IN:
            return _BUILT_IN[text]
        hidden.append(text)
        return f"variable_{len(hidden) - 1}_"

    tree = promql.parse(_VARIABLE.sub(hide, expression))
    reader = _Reader(hidden)
    promql.walk(tree, reader.enter, reader.leave)
    return Query(selectors=tuple(reader.selectors), joined=frozenset(reader.joined))


class _Reader:
    """Walks through an expression, with what is around the place where it is."""

    def __init__(self, hidden: list[str]) -> None:
        self.selectors: list[Selector] = []
        self.joined: set[str] = set()
        self._hidden = hidden
        self._around: list[promql.Expr] = []

    def enter(self, node: promql.Expr) -> bool:
        if isinstance(node, promql.VectorSelector):
            self.selectors.append(self._selector(node))
        if isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
            self.joined.update(node.modifier.matching.labels)
        self._around.append(node)
        return True

    def leave(self, _node: promql.Expr) -> bool:
        self._around.pop()
        return True

    def _selector(self, node: promql.VectorSelector) -> Selector:
        calls = [each.func.name for each in self._around if isinstance(each, promql.Call)]
        modifiers = [each.modifier for each in self._around if isinstance(each, promql.AggregateExpr) and each.modifier]
        return Selector(
            name=node.name or "",
            matchers=tuple(
                (each.name, _OPERATORS[str(each.op)], self._shown(each.value)) for each in node.matchers.matchers
            ),
            has_rate=bool(_RATES.intersection(calls)),
            kept=frozenset(label for modifier in modifiers for label in modifier.labels),
            says_by=all(modifier.type == promql.AggModifierType.By for modifier in modifiers),
        )

    def _shown(self, value: str) -> str:
        return re.sub(r"variable_(\d+)_", lambda found: self._hidden[int(found.group(1))], value)


_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
