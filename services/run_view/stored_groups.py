"""Which groups groups.jsonl holds, and where: some 40 bytes each, never their text.

Our own lines are only glanced at: their keys stand unescaped, which no text inside a JSON string can, so counting them
is exact, and a hundred times faster than reading tens of megabytes of tokens. Lines of another writer are parsed.
"""

import hashlib
import json
import re
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.run_dir import GROUPS_FILE
from services.run_view.columns import Longs
from services.run_view.confined import ConfinedFolder
from services.run_view.growing import GrowingFile
from services.run_view.refusals import NotFound
from shaping.errors import DataError

ALL_CORRECT, ALL_INCORRECT, MIXED = "all_correct", "all_incorrect", "mixed"
VERDICTS = (MIXED, ALL_CORRECT, ALL_INCORRECT)

OWN_SPELLING = b'{"version":1,"prompt_id":"'
_RESPONSES = b'"responses":['
_CORRECT, _INCORRECT = b'{"correct":true,', b'{"correct":false,'
_TOKEN_IDS = b'"token_ids":['
_HEAD = re.compile(rb'"group_id":("(?:[^"\\]|\\.)*"),"step":(\d+),')


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroup:
    """One line.

    Args:
        offset, num_bytes: of the line in the file.
        step: that it was sampled for; 0 where the line does not say.
    """

    offset: int
    num_bytes: int
    step: int
    num_correct: int
    num_rollouts: int
    num_tokens: int

    @property
    def verdicts(self) -> str:
        if self.num_correct in (0, self.num_rollouts):
            return ALL_CORRECT if self.num_correct else ALL_INCORRECT
        return MIXED


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a line says of its group as a whole."""

    group_id: str
    step: int
    num_correct: int
    num_rollouts: int
    num_tokens: int


class StoredGroups:
    """Not for two threads at once. A group that was made twice is the later one."""

    def __init__(self, folder: ConfinedFolder) -> None:
        self._folder = folder
        self._file = GrowingFile(lambda: folder.open(GROUPS_FILE), forget=self._forget, take=self._take)
        self._forget()

    def catch_up(self) -> None:
        self._file.catch_up()

    def restart(self) -> None:
        """Read the file anew at the next look."""
        self._file.restart()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def newest_step(self) -> int | None:
        return int(np.max(self._column(2))) if len(self) else None

    def find(self, group_id: str) -> StoredGroup | None:
        keys, places = self._sorted()
        # Behind the last of equal ones, which the file's order has kept.
        found = int(np.searchsorted(keys, np.uint64(_key(group_id)), side="right")) - 1
        return self._at(int(places[found])) if found >= 0 and keys[found] == _key(group_id) else None

    def of_step(self, step: int) -> tuple[StoredGroup, ...]:
        """Those that were sampled for this step, in the order of the file."""
        places = np.flatnonzero(self._column(2) == step)
        last = {self._keys[place]: int(place) for place in places.tolist()}
        return tuple(map(self._at, last.values()))

    def read(self, group: StoredGroup) -> bytes:
        """The line.

        Raises:
            NotFound: the file was cut back meanwhile.
        """
        try:
            with self._folder.open(GROUPS_FILE) as file:
                file.seek(group.offset)
                line = file.read(group.num_bytes)
        except FileNotFoundError:
            line = b""
        if len(line) < group.num_bytes or not line.endswith(b"\n"):
            raise NotFound(
                "group", "the run went on from an earlier checkpoint and this group is gone; list them again"
            )
        return line

    def _forget(self) -> None:
        self._keys: array[int] = array("Q")
        self._rows: array[int] = array("q")
        self._order = (np.zeros(0, np.uint64), np.zeros(0, np.int64))
        self.num_unreadable = 0

    def _take(self, start: int, lines: bytes) -> None:
        for line in lines.splitlines(keepends=True):
            try:
                found = glance(line)
                numbers = (found.step, found.num_correct, found.num_rollouts, found.num_tokens)
                self._rows.extend((start, len(line), *numbers))
                self._keys.append(_key(found.group_id))
            except (ValueError, TypeError, KeyError, AttributeError):
                self.num_unreadable += 1
            start += len(line)

    def _sorted(self) -> tuple[NDArray[np.uint64], Longs]:
        """Keys in order, and the line of each."""
        if len(self._order[0]) != len(self._keys):
            keys = np.array(self._keys, np.uint64)
            places = np.argsort(keys, kind="stable")
            self._order = (keys[places], places)
        return self._order

    def _column(self, index: int) -> Longs:
        return np.array(self._rows, np.int64).reshape(-1, 6)[:, index]

    def _at(self, place: int) -> StoredGroup:
        offset, num_bytes, step, num_correct, num_rollouts, num_tokens = self._rows[6 * place : 6 * place + 6]
        return StoredGroup(
            offset=offset,
            num_bytes=num_bytes,
            step=step,
            num_correct=num_correct,
            num_rollouts=num_rollouts,
            num_tokens=num_tokens,
        )


def glance(line: bytes) -> Glance:
    """Sizes of one group.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: not such a line.
    """
    begin = line.find(_RESPONSES)
    head = _HEAD.search(line, 0, begin) if line.startswith(OWN_SPELLING) and begin > 0 else None
    num_correct, num_incorrect = line.count(_CORRECT), line.count(_INCORRECT)
    if head is None or num_correct + num_incorrect == 0 or line.count(_TOKEN_IDS) != num_correct + num_incorrect:
        return _parsed(json.loads(line))
    return Glance(
        group_id=json.loads(head[1]),
        step=int(head[2]),
        num_correct=num_correct,
        num_rollouts=num_correct + num_incorrect,
        num_tokens=_num_tokens(line, begin),
    )


def _num_tokens(line: bytes, position: int) -> int:
    total = 0
    while (begin := line.find(_TOKEN_IDS, position)) >= 0:
        begin += len(_TOKEN_IDS)
        position = line.index(b"]", begin)
        total += line.count(b",", begin, position) + 1 if position > begin else 0
    return total


def _parsed(value: dict[str, Any]) -> Glance:
    responses = value["responses"]
    lengths = [len(each.get("token_ids") or each.get("tokens") or ()) for each in responses]
    if not responses:
        raise DataError("a group must have a response, found none")
    return Glance(
        group_id=str(value["group_id"]),
        step=int(value.get("step") or 0),
        num_correct=sum(each["correct"] is True for each in responses),
        num_rollouts=len(responses),
        num_tokens=sum(lengths),
    )


def _key(group_id: str) -> int:
    """64 bits for an id; that two of a run share them is not to be expected in 2^32 groups."""
    return int.from_bytes(hashlib.blake2b(group_id.encode("utf-8", "replace"), digest_size=8).digest(), "little")
