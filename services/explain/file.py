"""Groups in a file, one JSON object per line: what a run dumps and any other trainer can write (docs/explain.md).

Flow: path -> `read_groups` -> `GroupRecord`s, checked field by field; the first thing that is wrong is one DataError
with file and line. Knows no LESS beyond its options.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.explain.json_line import JsonLine, kind_of, printable_text, shown
from shaping.checks import BoolArray, FloatArray, IntArray
from shaping.entropy_bounds import EntropyBounds, bound_entropies
from shaping.errors import DataError
from shaping.less import LessOptions

VERSION = 1
PAGE = "docs/explain.md"
MAX_TOKEN_ID = 2**31 - 1

GROUP_FIELDS = (
    *("version", "prompt_id", "prompt", "responses"),
    *("vocab_size", "group_id", "step", "policy_version", "less", "extra"),
)
RESPONSE_FIELDS = (
    *("token_ids", "tokens", "entropies", "top_logprobs", "correct"),
    *("hint", "advantages", "multipliers", "shaped_advantages", "extra"),
)
LESS_FIELDS = ("mode", "min_length", "quantile", "membership", "scope", "match", "outside")
NUMBERS = ("advantages", "multipliers", "shaped_advantages")

TokenName = Callable[[int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRecord:
    """One response of T tokens.

    Args:
        token_ids: [T] int32; numbers given out per file where it has strings alone.
        tokens: [T] texts for a person.
        entropies: exact ones have equal bounds.
        hint: text in front of the response that was not sampled; "" without.
        advantages, multipliers, shaped_advantages: [T] float32 as the trainer had them; see `GroupRecord.numbers`.
    """

    token_ids: IntArray
    tokens: tuple[str, ...]
    entropies: EntropyBounds
    correct: bool
    hint: str
    advantages: FloatArray
    multipliers: FloatArray
    shaped_advantages: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """One line.

    Args:
        line: 1-based.
        labels: those of "step", "policy_version" and "group_id" that the line has.
        less: the LESS options that the line has.
        correct: [G] bool, of the responses.
        has_exact_entropies: measured; otherwise bounded by top-k log-probs.
        numbers: those of `NUMBERS` that its responses have; the others are zeros.
    """

    line: int
    prompt_id: str
    prompt: str
    labels: Mapping[str, int | str]
    less: Mapping[str, Any]
    responses: tuple[ResponseRecord, ...]
    correct: BoolArray
    has_exact_entropies: bool
    numbers: frozenset[str]

    @property
    def has_upper_bounds(self) -> bool:
        """Whether entropies are bounded from above too: exact, or the vocabulary's size is known."""
        return all(response.entropies.upper is not None for response in self.responses)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFile:
    """The groups of a file in its order, and what was noticed while reading."""

    path: Path
    groups: tuple[GroupRecord, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vocabulary:
    """Ids of the strings seen so far in this file, and names of ids that come without a string."""

    name: TokenName
    ids: dict[str, int] = field(default_factory=dict)


def read_groups(path: Path, token_name: TokenName = "<{}>".format) -> GroupFile:
    """Read a file of groups.

    Args:
        token_name: the text of a token id, for responses without strings.
    Raises:
        DataError: no file, no group in it, or the first field that breaks its rule. A last line without an end, after
            others, is no error: the file may be in use; it is left out with a notice.
    """
    vocabulary = _Vocabulary(name=token_name)
    groups: list[GroupRecord] = []
    notices: list[str] = []
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                line = JsonLine(where=f"{path}:{number}", page=PAGE)
                try:
                    value = line.parse(raw)
                except DataError:
                    if not groups or raw.endswith(b"\n"):
                        raise
                    notices.append(f"Line {number} has no end and is left out: it was being written when it was read")
                    continue
                groups.append(_group(line, value, number, vocabulary))
    except OSError as error:
        raise DataError(f"a file of groups must be readable, found {error.strerror} ({path})") from error
    if not groups:
        raise DataError(f"a file of groups must hold at least one group, found none ({path}); {PAGE} says how")
    return GroupFile(path=path, groups=tuple(groups), notices=tuple(notices))


def parse_group(
    value: dict[str, Any], where: str, *, number: int = 1, token_name: TokenName = "<{}>".format
) -> GroupRecord:
    """The group of one line that is JSON already.

    Args:
        where: the line, for messages.
    Raises:
        DataError: the first field that breaks its rule.
    """
    return _group(JsonLine(where=where, page=PAGE), value, number, _Vocabulary(name=token_name))


def _group(line: JsonLine, value: dict[str, Any], number: int, vocabulary: _Vocabulary) -> GroupRecord:
    version = line.get(value, "version")
    if type(version) is not int or version != VERSION:
        line.fail(f"must be {VERSION}, the version that this lessrl reads, found {shown(version)}", "version")
    line.check_fields(value, GROUP_FIELDS)
    vocab_size = value.get("vocab_size")
    if vocab_size is not None:
        line.whole(vocab_size, "vocab_size", least=2)
    rows = line.items(line.get(value, "responses"), "responses", {dict}, "objects")
    if not rows:
        line.fail("must hold at least one response, found none", "responses")
    responses = tuple(
        _response(line.inside(f"responses[{index}]"), row, vocab_size, vocabulary) for index, row in enumerate(rows)
    )
    _all_or_none(line, rows, "token_ids")
    return GroupRecord(
        line=number,
        prompt_id=line.text(line.get(value, "prompt_id"), "prompt_id"),
        prompt=_prompt(line, line.get(value, "prompt")),
        labels=_labels(line, value),
        less=_less(line.inside("less"), value.get("less")),
        responses=responses,
        correct=np.array([response.correct for response in responses], np.bool_),
        has_exact_entropies=_all_or_none(line, rows, "entropies"),
        numbers=frozenset(name for name in NUMBERS if _all_or_none(line, rows, name)),
    )


def _all_or_none(line: JsonLine, rows: list[dict[str, Any]], name: str) -> bool:
    """Whether the responses have a field; refused where only some have it."""
    having = [row.get(name) is not None for row in rows]
    if any(having) and not all(having):
        index = having.index(False)
        line.fail(f"{name} must be given for all responses of a group or for none, found none", f"responses[{index}]")
    return all(having)


def _prompt(line: JsonLine, value: object) -> str:
    """Text, or chat turns as text: one turn alone is its content."""
    if isinstance(value, str):
        return printable_text(value)
    turns = line.items(value, "prompt", {dict}, "turns with role and content, or text")
    read = []
    for index, turn in enumerate(turns):
        inside = line.inside(f"prompt[{index}]")
        role, content = (inside.text(inside.get(turn, name), name) for name in ("role", "content"))
        read.append((role, content))
    return read[0][1] if len(read) == 1 else "\n\n".join(f"{role}: {content}" for role, content in read)


def _labels(line: JsonLine, value: Mapping[str, Any]) -> dict[str, int | str]:
    given = {name: value[name] for name in ("step", "policy_version", "group_id") if value.get(name) is not None}
    return {
        name: line.text(each, name) if name == "group_id" else line.whole(each, name, least=0)
        for name, each in given.items()
    }


def _less(line: JsonLine, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        line.fail(f"must be an object of options, found {kind_of(value)}")
    line.check_fields(value, LESS_FIELDS)
    if "min_length" in value:
        line.whole(value["min_length"], "min_length", least=1)
    if "quantile" in value and type(value["quantile"]) is not float:
        line.fail(f"must be a number between 0 and 1, found {shown(value['quantile'])}", "quantile")
    try:
        _ = LessOptions(**value).rule
    except ValueError as error:
        line.fail(str(error))
    return dict(value)


def _response(line: JsonLine, value: dict[str, Any], vocab_size: int | None, vocabulary: _Vocabulary) -> ResponseRecord:
    line.check_fields(value, RESPONSE_FIELDS)
    token_ids, tokens = _tokens(line, value, vocabulary)
    correct = line.get(value, "correct")
    if not isinstance(correct, bool):
        line.fail(f"must be true or false, found {shown(correct)}", "correct")
    numbers = {name: _per_token(line, value.get(name), name, len(tokens)) for name in NUMBERS}
    return ResponseRecord(
        token_ids=token_ids,
        tokens=tokens,
        entropies=_entropies(line, value, len(tokens), vocab_size),
        correct=correct,
        hint=line.text(value.get("hint") or "", "hint"),
        **numbers,
    )


def _tokens(line: JsonLine, value: Mapping[str, Any], vocabulary: _Vocabulary) -> tuple[IntArray, tuple[str, ...]]:
    if value.get("token_ids") is None and value.get("tokens") is None:
        line.fail(f"token_ids or tokens must be given, found neither; {PAGE} says how")
    if value.get("token_ids") is None:
        texts = line.items(value["tokens"], "tokens", {str}, "texts")
        ids = [vocabulary.ids.setdefault(each, len(vocabulary.ids)) for each in texts]
        return np.array(ids, np.int32), tuple(map(printable_text, texts))
    ids = line.items(value["token_ids"], "token_ids", {int}, "whole numbers")
    if ids and not 0 <= min(ids) <= max(ids) <= MAX_TOKEN_ID:
        line.fail(f"must lie in 0 to {MAX_TOKEN_ID}, found {min(ids)} to {max(ids)}", "token_ids")
    if value.get("tokens") is None:
        texts = [vocabulary.name(each) for each in ids]
    else:
        texts = line.items(value["tokens"], "tokens", {str}, "texts")
    if len(texts) != len(ids):
        line.fail(f"must have one entry per token id, found {len(texts)} for {len(ids)} token ids", "tokens")
    return np.array(ids, np.int32), tuple(map(printable_text, texts))


def _entropies(line: JsonLine, value: Mapping[str, Any], num_tokens: int, vocab_size: int | None) -> EntropyBounds:
    exact, listed = value.get("entropies"), value.get("top_logprobs")
    if (exact is None) == (listed is None):
        found = "neither" if exact is None else "both"
        line.fail(f"either entropies (nats) or top_logprobs must be given, found {found}; {PAGE} says how")
    if exact is not None:
        nats = line.floats(exact, "entropies", num_tokens)
        return EntropyBounds(lower=nats, upper=nats)
    rows = line.items(listed, "top_logprobs", {list}, "lists, one per token")
    if len(rows) != num_tokens:
        line.fail(f"must have one list per token, found {len(rows)} for {num_tokens} tokens", "top_logprobs")
    for index, row in enumerate(rows):
        line.floats(row, f"top_logprobs[{index}]", len(row))
    try:
        return bound_entropies(rows, vocab_size=vocab_size)
    except ValueError as error:
        line.fail(str(error))


def _per_token(line: JsonLine, value: object, name: str, num_tokens: int) -> FloatArray:
    """One number per token; a single number stands for all of them, nothing for zeros."""
    if value is None:
        return np.zeros(num_tokens, np.float32)
    return line.floats([value] * num_tokens if type(value) in (int, float) else value, name, num_tokens)
