"""Rows of a data set to prompts: what the sources that read files and hub data sets share.

Flow: a table of rows and a recipe's options -> a source that holds one prompt per usable row. Knows no file format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rollout.reference_answers import answer_text
from rollout.row_fields import (
    FieldChoice,
    Row,
    Table,
    check_named,
    fields_to_read,
    find_answer_field,
    find_prompt_field,
    lookup,
)
from rollout.row_filters import RowFilters
from rollout.solution_steps import why_unusable
from rollout.sources.base import RowFault, RowUnwanted, SkippedRow
from rollout.worked_steps import AnswerForm, StepsSplit, read_steps
from shaping.errors import DataError
from shaping.records import Message, Prompt

MAX_ROW_CHARACTERS = 1_000_000
"""Of a row's prompt, answer and steps together: more is a mistake in the data, and costs every engine its time."""

ID_FIELD = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions(RowFilters):
    """What a recipe may say of any data set of rows. Field names may be nested: `reward_model.ground_truth`.

    Args:
        prompt_field: holds the problem as text, or as a list of chat turns; "" finds a field of a known name.
        answer_field: holds the reference answer; "" finds a field of a known name.
        steps_field: holds the ordered solution steps, a list of texts or a text (GSM8K: its `answer`); "" for none.
        steps_split: where the steps of a text end: "lines", or "paragraphs" at blank lines.
        steps_answer: how the last step says an answer that stands behind `####`: "box", or "hashes".
        on_bad_steps: "bad_row" counts a row without steps that hints can be made of as a bad one, "no_steps" keeps it
            without steps, and the rollout plan says what it does then.
        id_field: holds an id unique in the data set; "" numbers the rows, and still refuses two rows with one `id`, if
            they have such a field; null numbers them whatever they hold.
        system_prompt: opens every prompt, in place of a system turn of the row's own; "" leaves the row as it is.
        prompt_suffix: ends every problem, after a space unless it starts with white space.
        limit: reads at most this many rows, from the start, before any filter; None reads all.
        on_bad_row: "refuse" stops at a row that no prompt can be made of, "skip" leaves it out and counts it.
    """

    prompt_field: str = ""
    answer_field: str = ""
    steps_field: str = ""
    steps_split: StepsSplit = StepsSplit.LINES
    steps_answer: AnswerForm = AnswerForm.BOX
    on_bad_steps: Literal["bad_row", "no_steps"] = "bad_row"
    id_field: str | None = ""
    system_prompt: str = ""
    prompt_suffix: str = ""
    limit: int | None = None
    on_bad_row: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        RowFilters.__post_init__(self)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be >= 1 or null, got {self.limit}")

    @property
    def top_level_fields(self) -> frozenset[str]:
        """The fields of a row that may be read; the others need not be."""
        named = (self.prompt_field, self.answer_field, self.steps_field, self.id_field or "", self.level_field)
        return fields_to_read(named) | {ID_FIELD}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPrompts:
    """A PromptSource that holds its prompts in memory, in the order of the data."""

    prompts: tuple[Prompt, ...]
    has_solution_steps: bool
    skipped_rows: tuple[SkippedRow, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def prompt(self, index: int) -> Prompt:
        return self.prompts[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenFields:
    """Where the parts of a prompt are, and why there."""

    prompt: FieldChoice
    answer: FieldChoice
    steps: FieldChoice


def choose_fields(table: Table, options: RowOptions) -> ChosenFields:
    """The fields of a table that prompts are made of.

    Raises:
        DataError: no row, none that can be read, or a field that cannot be found.
    """
    if not table.rows:
        raise DataError(f"a data set must hold at least one row, found none ({table.where})")
    first = table.rows[0]
    if first.fault and all(row.fault for row in table.rows):
        raise DataError(f"{first.fault} ({table.where}, {table.unit} {first.number}); no other row can be read")
    if options.level_field:
        check_named(table, options.level_field, "level_field")
    no_steps = FieldChoice(name="", why="steps_field names none")
    return ChosenFields(
        prompt=find_prompt_field(table, options.prompt_field),
        answer=find_answer_field(table, options.answer_field),
        steps=check_named(table, options.steps_field, "steps_field") if options.steps_field else no_steps,
    )


def load_prompts(table: Table, options: RowOptions) -> LoadedPrompts:
    """One prompt per usable row, in order.

    Raises:
        DataError: an empty table; a field that cannot be found; under "refuse" the first row that could not be read,
            has no prompt, answer, level or usable steps, is too large, or repeats an id; a table without any row that
            is left.
    """
    fields = choose_fields(table, options)
    prompts: list[Prompt] = []
    skipped: list[SkippedRow] = []
    row_of_id: dict[object, int] = {}
    for row in table.rows:
        try:
            prompt = _make_prompt(row, fields, options, table=table, position=len(prompts))
            own_id = _own_id(row, options) or prompt.prompt_id
            if own_id in row_of_id:
                raise RowFault("ids must be unique", f"{table.unit} {row_of_id[own_id]} has the same")
        except RowFault as fault:
            is_filtered = isinstance(fault, RowUnwanted)
            if options.on_bad_row == "refuse" and not is_filtered:
                advice = "correct it, or set on_bad_row: skip (--skip-bad) to leave such rows out"
                raise DataError(f"{fault} ({table.where}, {table.unit} {row.number}); {advice}") from fault
            skipped.append(SkippedRow(number=row.number, rule=fault.rule, found=fault.found, is_filtered=is_filtered))
            continue
        row_of_id[own_id] = row.number
        prompts.append(prompt)
    if not prompts:
        first = skipped[0]
        raise DataError(
            f"a data set must hold a usable row, all {len(skipped)} were skipped, the first because: {first.reason} "
            f"({table.where}, {table.unit} {first.number})"
        )
    return LoadedPrompts(
        prompts=tuple(prompts), has_solution_steps=bool(fields.steps.name), skipped_rows=tuple(skipped)
    )


def _make_prompt(row: Row, fields: ChosenFields, options: RowOptions, *, table: Table, position: int) -> Prompt:
    if row.fault:
        raise row.fault
    options.check_level(row.fields)
    answer = answer_text(lookup(row.fields, fields.answer.name))
    if not answer:
        raise RowFault("a row must have an answer", f"field {fields.answer.name!r} holds none")
    messages = _messages(lookup(row.fields, fields.prompt.name), fields.prompt.name, options)
    steps = _solution_steps(row, fields.steps.name, answer, options) if fields.steps.name else ()
    prompt_id = _prompt_id(row, options.id_field, table)
    _check_texts("".join((prompt_id, answer, *(each.content for each in messages), *steps)))
    options.check_length(messages)
    return Prompt(
        prompt_id=prompt_id,
        messages=messages,
        reference_answer=answer,
        position=position,
        solution_steps=steps,
    )


def _check_texts(text: str) -> None:
    if len(text) > MAX_ROW_CHARACTERS:
        rule = f"a row must have at most {MAX_ROW_CHARACTERS:,} characters of prompt, answer and steps"
        raise RowFault(rule, f"found {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # JSON can hold half of a surrogate pair; no tokenizer takes it.
        raise RowFault("a row's texts must be Unicode", f"found the lone surrogate {text[error.start]!r}") from error


def _own_id(row: Row, options: RowOptions) -> tuple[str | int] | None:
    """What a row without a named id field has in `id`: not its prompt's id, but no other row's either."""
    value = row.fields.get(ID_FIELD) if options.id_field == "" else None
    return (value,) if isinstance(value, str | int) and value != "" else None


def _prompt_id(row: Row, id_field: str | None, table: Table) -> str:
    if not id_field:
        return f"{table.name}-{row.number}"
    value = lookup(row.fields, id_field)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowFault("a row must have an id", f"field {id_field!r} holds {value!r:.60}")
    return str(value)


def _messages(value: object, name: str, options: RowOptions) -> tuple[Message, ...]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not value:
        raise RowFault("a prompt must not be empty", f"field {name!r} holds none")
    if not isinstance(value, list):
        raise RowFault("a prompt must be text or a list of chat turns", f"field {name!r} is a {type(value).__name__}")
    messages = [_message(turn, name) for turn in value]
    last = messages[-1]
    if last.role != "user":
        raise RowFault("the last chat turn must be the user's", f"field {name!r} ends with role {last.role[:60]!r}")
    if not last.content.strip():
        raise RowFault("a prompt must not be empty", f"field {name!r} holds no text in its last turn")
    if options.system_prompt:
        messages = [Message(role="system", content=options.system_prompt)] + [m for m in messages if m.role != "system"]
    messages[-1] = Message(role="user", content=_with_suffix(last.content, options.prompt_suffix))
    return tuple(messages)


def _message(turn: object, name: str) -> Message:
    if isinstance(turn, Mapping):
        role, content = turn.get("role"), turn.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return Message(role=role, content=content)
    raise RowFault("a chat turn must hold texts `role` and `content`", f"found {turn!r:.60} in field {name!r}")


def _with_suffix(problem: str, suffix: str) -> str:
    space = " " if suffix and not suffix[0].isspace() else ""
    return f"{problem}{space}{suffix}"


def _solution_steps(row: Row, name: str, answer: str, options: RowOptions) -> tuple[str, ...]:
    """The steps of a row where hints can be made of them."""
    try:
        found = lookup(row.fields, name)
        steps = read_steps(found, name, split=options.steps_split, answer_form=options.steps_answer)
        if not steps:
            raise RowFault("a row must have solution steps", f"field {name!r} holds none")
        if reason := why_unusable(steps, answer):
            rule, _, found_instead = reason.partition(", ")
            raise RowFault(rule, found_instead)
    except RowFault:
        if options.on_bad_steps == "no_steps":
            return ()
        raise
    return steps
