"""One line of groups.jsonl as what the API answers: explained, and in JSON."""

import json
from typing import Any

from services.explain.file import parse_group
from services.explain.group import explain_record
from services.explain.json_line import JsonLine
from services.explain.view import group_view
from services.run_dir import GROUPS_FILE
from services.run_view.distributions import WrittenGroup
from services.run_view.stored_groups import StoredGroup
from shaping.errors import UserError

MAX_TOKENS = 1 << 20
"""Of one group that is drawn: twice 64 responses of 8k tokens."""


def read_written(line: bytes) -> WrittenGroup:
    """A line as records.

    Raises:
        DataError: it is no group.
    """
    value = JsonLine(where=GROUPS_FILE, page="docs/explain.md").parse(line)
    record = parse_group(value, GROUPS_FILE)
    rewards = [each.get("reward") for each in _extras(value)]
    told = tuple(float(each) for each in rewards if isinstance(each, int | float))
    return WrittenGroup(record=record, rewards=told if len(told) == len(rewards) else None)


def group_json(line: bytes, group: StoredGroup, group_id: str) -> bytes:
    """The whole answer, as JSON text: a group of half a million tokens is made into text once.

    Members: those of `services.explain.view.group_view`, and `group_id`, `num_tokens`, and `answers`: of each response,
    `correct`, `num_tokens`, `reward` and `is_truncated`, null where the line does not say.

    Raises:
        UserError: too many tokens to be drawn, or a line that is no group.
    """
    if group.num_tokens > MAX_TOKENS:
        raise UserError(
            f"a group of at most {MAX_TOKENS} tokens is drawn, found {group.num_tokens} ({group_id}); "
            f"`lessrl explain {GROUPS_FILE}` shows its responses one at a time"
        )
    value = JsonLine(where=GROUPS_FILE, page="docs/explain.md").parse(line)
    explained = explain_record(parse_group(value, GROUPS_FILE), options={}, bound="lower")
    answers = [
        {
            "correct": response.correct,
            "num_tokens": len(response.tokens),
            "reward": extra.get("reward"),
            "is_truncated": extra.get("is_truncated"),
        }
        for response, extra in zip(explained.record.responses, _extras(value), strict=True)
    ]
    view = group_view(explained) | {"group_id": group_id, "num_tokens": group.num_tokens, "answers": answers}
    return json.dumps(view, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _extras(value: dict[str, Any]) -> list[dict[str, Any]]:
    found = [each.get("extra") for each in value["responses"]]
    return [each if isinstance(each, dict) else {} for each in found]
