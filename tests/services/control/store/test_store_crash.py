"""A control plane that is killed between any two statements leaves a state and its event, or neither."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).resolve().parents[3] / "support" / "killed_store_worker.py"
ROOT = Path(__file__).resolve().parents[4]

BEFORE = {
    "state": "pausing",
    "operations": ["running"],
    "events": [1],
    "configs": [None],
    "num_audit": 0,
    "answer": 0,
    "setting": "before",
    "last": 1,
    "trouble": "",
}
AFTER = {
    "state": "paused",
    "operations": ["succeeded"],
    "events": [1, 2, 3],
    "configs": [9],
    "num_audit": 1,
    "answer": 201,
    "setting": "after",
    "last": 3,
    "trouble": "",
}
DELETED = BEFORE | {"state": "gone", "operations": [], "events": [], "configs": []}
EMPTY = DELETED | {"answer": None, "setting": None, "last": 0}


def deaths(what: str, url: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(WORKER), what, url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("what", "before", "after"), [("commit", BEFORE, AFTER), ("delete", BEFORE, DELETED)])
def test_a_change_that_is_killed_is_there_whole_or_not_at_all(
    url: str, what: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    lines = deaths(what, url)
    *died, done = lines
    assert [line["found"] for line in died] == [before] * len(died)
    assert done == {"statement": "", "found": after}
    statements = " ".join(line["statement"] for line in died)
    assert died[-1]["statement"] == "COMMIT"
    tables = {
        "commit": ("runs", "operations", "events", "configs", "audit", "answers", "settings"),
        "delete": ("runs",),
    }
    assert all(table in statements for table in tables[what])


def test_an_opening_that_is_killed_is_made_up_for_by_the_next(url: str) -> None:
    lines = deaths("open", url)
    assert [line["found"] for line in lines] == [EMPTY] * len(lines)
    assert sum("CREATE TABLE" in line["statement"] for line in lines) == 8
