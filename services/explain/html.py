"""Explained groups as one HTML file that needs nothing else: style, script and data in it, nothing loaded.

Data stand as JSON in the page, one block per group, read when the group is opened; the script puts all text in as text
nodes, and the page's own policy lets no other script run.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from services.explain.group import Doubt, ExplainedGroup, kept_share, unlike
from services.explain.marks import MARKS, visible
from services.explain.summary import Summary, class_tokens, options_text
from services.explain.words import Reason, fraction, multiplier, reasons, words
from shaping.checks import FloatArray
from shaping.errors import UserError
from shaping.explain import TOKEN_CLASSES

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
    folder = resources.files("services.explain") / "page"
    frame, style, script = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    totals = np.cumsum([group.num_tokens for group in groups])
    shown = groups[: max(1, int((totals <= max_tokens).sum()))]
    tokens: dict[str, int] = {}
    blocks = [
        f'<script type="application/json" id="group-{index}">{_json(_group(group, tokens))}</script>'
        for index, group in enumerate(shown)
    ]
    parts = {
        "style-hash": _hash(style),
        "script-hash": _hash(script),
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": _json(_head(title, summary, groups, shown) | {"tokens": list(tokens)}),
        "groups": "\n".join(blocks),
    }
    # Cut at the frame's own marks once, so that no text of a file is taken for a mark.
    pieces = frame.split("@")
    return "".join(piece if number % 2 == 0 else parts[piece] for number, piece in enumerate(pieces))


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
            {
                "key": each,
                "name": mark.name,
                "meaning": mark.meaning,
                "factor": mark.factor,
                "share": _rounded(summary.share(summary.class_tokens[each])),
            }
            for each, mark in MARKS.items()
        ],
        "groups": [_group_head(group) for group in shown],
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


def _group_head(group: ExplainedGroup) -> dict[str, Any]:
    tokens = class_tokens(group)
    total = max(1, sum(tokens))
    return {
        "prompt_id": visible(group.record.prompt_id, is_ascii=False),
        "step": group.record.labels.get("step"),
        "correct": int(group.record.correct.sum()),
        "size": len(group.record.responses),
        "kept": _rounded(group.kept_share),
        "shares": [_rounded(tokens[TOKEN_CLASSES.index(each)] / total) for each in MARKS],
    }


def _group(group: ExplainedGroup, tokens: dict[str, int]) -> dict[str, Any]:
    """All of one group but its head.

    Args:
        tokens: numbers of the texts so far, of all groups of the page; new ones are added.
    """
    found: dict[Reason, int] = {}
    rollouts = [_rollout(group, row, tokens, found) for row in range(len(group.record.responses))]
    found_segments = group.why.analysis.support.segments
    columns = (found_segments.rows, found_segments.starts, found_segments.stops)
    counts = (found_segments.num_correct, found_segments.num_incorrect)
    return {
        "prompt": group.record.prompt,
        "labels": [f"{name.replace('_', ' ')} {value}" for name, value in group.record.labels.items()],
        "options": options_text(group.why.options),
        "mode": group.why.options.mode,
        "notes": [] if group.doubt is None else [_doubt_words(group.doubt, group.num_tokens)],
        "bound": "" if group.doubt is None else f", {group.doubt.bound} bound",
        "highest": max((float(row.max()) for row in group.entropies if len(row)), default=0.0),
        "rollouts": rollouts,
        "reasons": [_reason(group, reason) for reason in found],
        "strings": [
            {"length": len(string.token_ids), "places": string.places.tolist()} for string in group.why.strings
        ],
        "segments": np.stack([*columns, *counts], axis=1).tolist(),
    }


def _doubt_words(doubt: Doubt, num_tokens: int) -> str:
    text = f"Entropies are not exact: LESS was run on their {doubt.bound} bound."
    if doubt.num_differ is None:
        return f"{text} Without vocab_size there is no upper bound."
    return f"{text} Low or high differs between the bounds for {doubt.num_differ:,} of {num_tokens:,} tokens."


def _rollout(group: ExplainedGroup, row: int, tokens: dict[str, int], found: dict[Reason, int]) -> dict[str, Any]:
    response, before, after = group.record.responses[row], group.before[row], group.after[row]
    texts = [visible(token, is_ascii=False) for token in response.tokens]
    numbers = [found.setdefault(reason, len(found)) for reason in reasons(group, row)]
    applied = group.applied[row] if group.applied else after
    return {
        "correct": response.correct,
        "hint": visible(response.hint, is_ascii=False),
        "threshold": _digits(group.why.analysis.support.thresholds[row : row + 1])[0],
        "kept": _rounded(kept_share([before], [after])),
        "before": _digits(before) if len(set(before.tolist())) > 1 else sum(_digits(before[:1])),
        "tokens": [tokens.setdefault(text, len(tokens)) for text in texts],
        "entropies": _digits(group.entropies[row]),
        "reasons": _runs(numbers),
        "applied": {str(at): float(applied[at]) for at in np.flatnonzero(unlike(applied, after)).tolist()},
    }


def _reason(group: ExplainedGroup, reason: Reason) -> dict[str, Any]:
    return {
        "kind": TOKEN_CLASSES[reason.code],
        "fraction": fraction(group, reason),
        "multiplier": multiplier(group, reason),
        "words": words(group, reason),
        "string": None if reason.string < 0 else reason.string,
    }


def _runs(numbers: Sequence[int]) -> list[int]:
    """Run lengths: value, times, value, times ..."""
    runs: list[int] = []
    for number in numbers:
        if runs and runs[-2] == number:
            runs[-1] += 1
        else:
            runs += [number, 1]
    return runs


def _digits(values: FloatArray) -> list[float]:
    """Five digits, which is more than a page shows, and less than a file holds."""
    return [float(f"{value:.5g}") for value in values.tolist()]


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
