"""One explained group as JSON data, all that `page/group.js` needs to draw it: one form for the file and for the API.

Texts stand once, in the group's own vocabulary; reasons stand as run lengths. Text of a group is data, never markup:
whoever draws it puts it in as text nodes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.explain.group import Doubt, ExplainedGroup, kept_share, unlike
from services.explain.marks import MARKS, visible
from services.explain.summary import class_tokens, options_text
from services.explain.words import Reason, fraction, multiplier, reason_runs, words
from shaping.checks import FloatArray
from shaping.explain import TOKEN_CLASSES

_DIGITS = 5


def group_view(group: ExplainedGroup) -> dict[str, Any]:
    """All of one group.

    Members beside those of `group_head`: `classes`, what the marks mean; `tokens`, texts by number; `rollouts`, one
    entry per response with a number of `tokens`, an entropy in nats and a run-length coded number of `reasons` per
    token; `strings`, length and places [rollout, first token]; `segments`, rows [rollout, start, stop, correct, wrong].
    """
    tokens: dict[str, int] = {}
    found: dict[Reason, int] = {}
    rollouts = [_rollout(group, row, tokens, found) for row in range(len(group.record.responses))]
    segments = group.why.analysis.support.segments
    columns = (segments.rows, segments.starts, segments.stops, segments.num_correct, segments.num_incorrect)
    return group_head(group) | {
        "classes": class_legend(),
        "prompt": group.record.prompt,
        "labels": [f"{name.replace('_', ' ')} {value}" for name, value in group.record.labels.items()],
        "options": options_text(group.why.options),
        "mode": group.why.options.mode,
        "notes": [] if group.doubt is None else [_doubt_words(group.doubt, group.num_tokens)],
        "bound": "" if group.doubt is None else f", {group.doubt.bound} bound",
        "highest": max((float(row.max()) for row in group.entropies if len(row)), default=0.0),
        "tokens": [visible(text, is_ascii=False) for text in tokens],
        "rollouts": rollouts,
        "reasons": [_reason(group, reason) for reason in found],
        "strings": [
            {"length": len(string.token_ids), "places": string.places.tolist()} for string in group.why.strings
        ],
        "segments": np.stack(columns, axis=1).tolist(),
    }


def group_head(group: ExplainedGroup) -> dict[str, Any]:
    """What a list of groups shows. `shares` of tokens in the order of `class_legend`; `kept` is None where there is
    no advantage."""
    tokens = class_tokens(group)
    total = max(1, sum(tokens))
    return {
        "prompt_id": visible(group.record.prompt_id, is_ascii=False),
        "step": group.record.labels.get("step"),
        "correct": int(group.record.correct.sum()),
        "size": len(group.record.responses),
        "kept": rounded(group.kept_share),
        "shares": [rounded(tokens[TOKEN_CLASSES.index(each)] / total) for each in MARKS],
    }


def class_legend() -> list[dict[str, str]]:
    """Name, meaning and multiplier of each class, in the order in which they are shown."""
    return [
        {"key": each, "name": mark.name, "meaning": mark.meaning, "factor": mark.factor} for each, mark in MARKS.items()
    ]


def rounded(share: float | None) -> float | None:
    """Four digits behind the point."""
    return None if share is None else round(share, 4)


def _doubt_words(doubt: Doubt, num_tokens: int) -> str:
    text = f"Entropies are not exact: LESS was run on their {doubt.bound} bound."
    if doubt.num_differ is None:
        return f"{text} Without vocab_size there is no upper bound."
    return f"{text} Low or high differs between the bounds for {doubt.num_differ:,} of {num_tokens:,} tokens."


def _rollout(group: ExplainedGroup, row: int, tokens: dict[str, int], found: dict[Reason, int]) -> dict[str, Any]:
    response, before, after = group.record.responses[row], group.before[row], group.after[row]
    runs = [(found.setdefault(reason, len(found)), times) for reason, times in reason_runs(group, row)]
    applied = group.applied[row] if group.applied else after
    return {
        "correct": response.correct,
        "hint": visible(response.hint, is_ascii=False),
        "threshold": _digits(group.why.analysis.support.thresholds[row : row + 1])[0],
        "kept": rounded(kept_share([before], [after])),
        "before": _digits(before) if len(np.unique(before)) > 1 else sum(_digits(before[:1])),
        "tokens": [tokens.setdefault(text, len(tokens)) for text in response.tokens],
        "entropies": _digits(group.entropies[row]),
        "reasons": _merged(runs),
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


def _merged(runs: Sequence[tuple[int, int]]) -> list[int]:
    """Run lengths in one list: value, times, value, times ..."""
    return [number for run in runs for number in run]


def _digits(values: FloatArray) -> list[float]:
    """Five digits, which is more than a page shows, and less than a file holds.

    A value and a power of ten up to 1e22 are both exact in float64, so their quotient prints with these digits alone.
    """
    exact = values.astype(np.float64)
    sizes = np.abs(exact)
    is_plain = (sizes >= 1e-16) & (sizes < 1e5)
    places = np.where(is_plain, _DIGITS - 1 - np.floor(np.log10(np.where(is_plain, sizes, 1.0))), 0.0)
    scales = 10.0**places
    short = np.where(is_plain, np.round(exact * scales) / scales, exact)
    numbers: list[float] = short.tolist()
    for at in np.flatnonzero(~is_plain & (sizes > 0)).tolist():
        numbers[at] = float(f"{numbers[at]:.{_DIGITS}g}")
    return numbers
