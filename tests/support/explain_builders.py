"""Files of groups for tests, and one group whose every multiplier can be read off.

The worked group, segments of 3 tokens or more; each response has ten tokens, of which eight are low (0.1 nats), H is
high (1.0) and T is the threshold itself (0.5), as the ninth smallest of ten:

    rollout 0  correct    a b c d H e f g h T     abcd is in rollouts 0 and 1: correct-only, 2/3
    rollout 1  correct    a b c d H x y z w T     efgh is in rollouts 0 and 3: shared, 0
    rollout 2  correct    m n H o u v k l j T     pqrs is in rollouts 3 and 4: incorrect-only, 2/2
    rollout 3  incorrect  e f g h H p q r s T     xyzw, ouvklj and 1234 are in one alone: unique, 1/3, 1/3, 1/2
    rollout 4  incorrect  p q r s H 1 2 3 4 T     mn is too short and T ends its run: stray, 1/3 and 1/2
"""

import copy
import json
from pathlib import Path
from typing import Any

WORKED = ("abcdHefghT", "abcdHxyzwT", "mnHouvkljT", "efghHpqrsT", "pqrsH1234T")
WORKED_CORRECT = (True, True, True, False, False)
NATS = {"H": 1.0, "T": 0.5}


def worked_line(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The worked group as a line of a file; `changes` replaces fields of the group."""
    responses = [
        {"tokens": list(text), "entropies": [NATS.get(token, 0.1) for token in text], "correct": correct}
        for text, correct in zip(WORKED, WORKED_CORRECT, strict=True)
    ]
    line = {"version": 1, "prompt_id": "worked", "prompt": "spell", "less": {"min_length": 3}, "responses": responses}
    return {**line, **(changes or {})}


def make_response(text: str, correct: bool, *, high: str = "H", **fields: Any) -> dict[str, Any]:
    """A response of one token per character; the characters of `high` have an entropy of 1 nat, all others 0.1."""
    entropies = [1.0 if token in high else 0.1 for token in text]
    return {"tokens": list(text), "entropies": entropies, "correct": correct, **fields}


def make_line(responses: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"version": 1, "prompt_id": "p", "prompt": "why?", "responses": responses, **fields}


def with_fields(line: dict[str, Any], index: int, **fields: Any) -> dict[str, Any]:
    """A line with fields of one response replaced; None takes a field away."""
    changed = copy.deepcopy(line)
    for name, value in fields.items():
        if value is None:
            del changed["responses"][index][name]
        else:
            changed["responses"][index][name] = value
    return changed


def write_lines(folder: Path, *lines: dict[str, Any] | str, name: str = "groups.jsonl") -> Path:
    """A file of these lines; text is written as it is."""
    path = folder / name
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path
