"""Explained groups as one HTML file that needs nothing else: style, script and data in it, nothing loaded.

Data stand as JSON in the page, one block per group, read when the group is opened; the script puts all text in as text
nodes, and the page's own policy lets no other script run. `page/group.js` and `page/group.css` draw a group here and in
the page of the control plane (services/page).
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from services.explain.group import ExplainedGroup
from services.explain.marks import MARKS
from services.explain.summary import Summary
from services.explain.view import class_legend, group_head, group_view, rounded
from shaping.errors import UserError

MODULES = ("dom.js", "chunks.js", "strips.js", "inspector.js", "group.js", "page.js")
"""In one file they are one module: what they import from each other stands above."""

_IMPORTS = re.compile(r"^import \{[^}]*\} from \"\./\w+\.js\";\n", re.MULTILINE)

MAX_PAGE_TOKENS = 600_000
"""Beyond it (some 10 MB) a page is slow to load; further groups are left out, and the page says so."""


def write_page(path: Path, title: str, summary: Summary, groups: Sequence[ExplainedGroup]) -> int:
    """Write the page.

    Returns:
        Its size in bytes.
    Raises:
        UserError: the file cannot be written.
    """
    text = page(title, summary, groups).encode()
    try:
        aside = path.with_name(f".{path.name}.part")
        aside.write_bytes(text)
        aside.replace(path)
    except OSError as error:
        raise UserError(f"--html must be a file that can be written, found {error.strerror} ({path})") from error
    return len(text)


def page(title: str, summary: Summary, groups: Sequence[ExplainedGroup], *, max_tokens: int = MAX_PAGE_TOKENS) -> str:
    """The whole page, with the first groups that have at most `max_tokens` together; the first one in any case."""
    style = _read("group.css") + _read("page.css")
    script = "".join(_IMPORTS.sub("", _read(name)) for name in MODULES)
    totals = np.cumsum([group.num_tokens for group in groups])
    shown = groups[: max(1, int((totals <= max_tokens).sum()))]
    blocks = [
        f'<script type="application/json" id="group-{index}">{_json(group_view(group))}</script>'
        for index, group in enumerate(shown)
    ]
    parts = {
        "style-hash": _hash(style),
        "script-hash": _hash(script),
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": _json(_head(title, summary, groups, shown)),
        "groups": "\n".join(blocks),
    }
    # Cut at the frame's own marks once, so that no text of a file is taken for a mark.
    pieces = _read("page.html").split("@")
    return "".join(piece if number % 2 == 0 else parts[piece] for number, piece in enumerate(pieces))


def _read(name: str) -> str:
    return (resources.files("services.explain") / "page" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: object) -> str:
    """JSON that can stand in a script element: no `<`, so neither an end of it nor a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _head(
    title: str, summary: Summary, groups: Sequence[ExplainedGroup], shown: Sequence[ExplainedGroup]
) -> dict[str, Any]:
    warnings = list(summary.warnings)
    if len(shown) < len(groups):
        warnings.append(
            f"The first {len(shown)} of {len(groups)} groups are on this page; choose others with --step or --prompt"
        )
    return {
        "file": title,
        "warnings": warnings,
        "facts": summary.facts,
        "figures": _figures(summary),
        "classes": [
            legend | {"share": rounded(summary.share(summary.class_tokens[each]))}
            for each, legend in zip(MARKS, class_legend(), strict=True)
        ],
        "groups": [group_head(group) for group in shown],
    }


def _figures(summary: Summary) -> list[tuple[str, str, str]]:
    """Name, value and a note, as they are shown."""
    outcomes = (
        f"{summary.num_mixed} mixed, {summary.num_all_correct} all correct, {summary.num_all_incorrect} all wrong"
    )
    (first, overlap), *others = summary.overlaps.items()
    return [
        ("groups", f"{summary.num_groups:,}", outcomes),
        ("rollouts", f"{summary.num_rollouts:,}", f"{summary.num_tokens:,} tokens"),
        ("accuracy", f"{summary.num_correct / summary.num_rollouts:.1%}", ""),
        ("low entropy", f"{summary.share(summary.num_low):.1%}", f"{summary.share(summary.num_ties):.1%} at threshold"),
        ("advantage kept", "\u2013" if summary.kept is None else f"{summary.kept:.1%}", "of its absolute mass"),
        (f"overlap {first}", _two_digits(overlap), ", ".join(f"{name} {_two_digits(each)}" for name, each in others)),
    ]


def _two_digits(share: float | None) -> str:
    return "\u2013" if share is None else f"{share:.2f}"
