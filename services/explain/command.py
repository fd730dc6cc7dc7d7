"""`lessrl explain`: a file of groups, explained in the terminal and as one HTML file."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from services.explain.file import GroupRecord, read_groups
from services.explain.group import Bound, ExplainedGroup, explain_record
from services.explain.html import write_page
from services.explain.summary import summarise
from services.explain.text import print_summary, print_warnings
from services.explain.tokens import print_group
from services.token_names import TokenNames
from shaping.errors import DataError, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest:
    """What is asked for.

    Args:
        prompt: show the groups of this prompt, response by response; "" shows the file.
        step: groups of this step alone.
        rollout: with a prompt, this response alone.
        with_table: with a prompt, one line per token.
        html: file to write; None writes none.
        bound: of the entropies, where they are not exact.
        tokenizer: folder or name that gives token ids their text, where the file has ids alone; "" shows the ids.
        options: LESS options that replace those of the file.
    """

    file: Path
    prompt: str = ""
    step: int | None = None
    rollout: int | None = None
    with_table: bool = False
    html: Path | None = None
    bound: str = "lower"
    tokenizer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def explain(request: ExplainRequest, console: Console) -> None:
    """Read, explain, show.

    Raises:
        UserError: the file, or what is asked of it, cannot work.
    """
    if not request.prompt and (request.with_table or request.rollout is not None):
        raise UserError("--table and --rollout show one prompt, found no --prompt: name one of the file's prompts")
    bound = _bound(request.bound)
    names = TokenNames.load(request.tokenizer) if request.tokenizer else None
    file = read_groups(request.file, names) if names else read_groups(request.file)
    chosen = _choose(file.groups, request)
    groups = [explain_record(record, options=request.options, bound=bound) for record in chosen]
    summary = summarise(file, groups)
    num_bytes = 0 if request.html is None else write_page(request.html, request.file.name, summary, groups)
    if request.prompt:
        print_warnings(console, summary)
        for group in groups:
            print_group(console, group, rows=_rows(group, request), with_table=request.with_table)
    else:
        print_summary(console, str(request.file), summary)
    if request.html is not None:
        console.print(Text(f"wrote {request.html} ({num_bytes / 1e6:.1f} MB)"), soft_wrap=True)


def _bound(text: str) -> Bound:
    bounds: dict[str, Bound] = {"lower": "lower", "upper": "upper"}
    if text not in bounds:
        raise UserError(f"--bound must be lower or upper, got {text!r}")
    return bounds[text]


def _choose(records: Sequence[GroupRecord], request: ExplainRequest) -> list[GroupRecord]:
    chosen = [record for record in records if not request.prompt or record.prompt_id == request.prompt]
    if not chosen:
        close = difflib.get_close_matches(request.prompt, {record.prompt_id for record in records}, n=3, cutoff=0.0)
        raise DataError(
            f"--prompt must be a prompt of the file, found no {request.prompt!r}; near it: {', '.join(close)} "
            f"({request.file})"
        )
    if request.step is None:
        return chosen
    steps = sorted({int(record.labels["step"]) for record in chosen if "step" in record.labels})
    of_step = [record for record in chosen if record.labels.get("step") == request.step]
    if not of_step:
        there = f"steps {steps[0]} to {steps[-1]}" if steps else "no steps"
        raise DataError(f"--step must be a step of the file, found no {request.step} but {there} ({request.file})")
    return of_step


def _rows(group: ExplainedGroup, request: ExplainRequest) -> Sequence[int]:
    size = len(group.record.responses)
    if request.rollout is None:
        return range(size)
    if not 0 <= request.rollout < size:
        raise UserError(
            f"--rollout must be in 0 to {size - 1}, got {request.rollout} (group in line {group.record.line})"
        )
    return [request.rollout]
