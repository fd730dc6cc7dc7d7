"""Groups that ended, page by page out of ledger.jsonl: of each 64 kB, which steps and outcomes are in it.

So the index of a ledger of many gigabytes is some megabytes, and a page reads only parts that can hold what is asked.
Newest first means: the group that ended last comes first.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from services.ledger import LedgerLine
from services.run_dir import LEDGER_FILE
from services.run_view.confined import ConfinedFolder
from services.run_view.growing import CHUNK_BYTES, GrowingFile
from shaping.errors import UserError

MAX_SCAN_BYTES = 8 << 20
"""That one page reads; where so much holds nothing that is asked for, the page is short and the next one goes on."""
MAX_OUTCOMES = 63

# Quotes and line ends inside a prompt's id are escaped, so that no id can look like the end of a line.
_END = re.compile(rb'"outcome": "([a-z_]+)", "step": (\d+)\}\n')


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Args:
    lines: newest first.
    next_offset: where the next page goes on; None on the last one.
    """

    lines: tuple[LedgerLine, ...]
    next_offset: int | None


class LedgerFile:
    """Not for two threads at once."""

    def __init__(self, folder: ConfinedFolder) -> None:
        self._folder = folder
        self._file = GrowingFile(lambda: folder.open(LEDGER_FILE), forget=self._forget, take=self._take)
        self._forget()

    def catch_up(self) -> None:
        self._file.catch_up()

    def restart(self) -> None:
        """Read the file anew at the next look."""
        self._file.restart()

    @property
    def totals(self) -> dict[str, int]:
        """Groups of the whole run by how they ended."""
        return dict(self._totals)

    @property
    def num_blocks(self) -> int:
        return len(self._offsets)

    def page(
        self,
        *,
        step: int | None,
        outcomes: Collection[str] | None,
        accepts: Callable[[LedgerLine], bool],
        size: int,
        before: int | None,
    ) -> LedgerPage:
        """Groups that ended, newest first.

        Args:
            step: None for any.
            outcomes: None for any.
            accepts: a further condition.
            size: most lines.
            before: `next_offset` of the page before; None begins with the newest.
        Raises:
            UserError: `before` is where no line begins: the ledger was cut back meanwhile.
        """
        found: list[LedgerLine] = []
        scanned = 0
        try:
            file = self._folder.open(LEDGER_FILE)
        except FileNotFoundError:
            return LedgerPage(lines=(), next_offset=None)
        with file:
            end = self._file.position if before is None else before
            file.seek(max(0, end - 1))
            if not 0 <= end <= self._file.position or (end > 0 and file.read(1) != b"\n"):
                raise UserError("page_token is of a ledger that was cut back since; begin with the first page again")
            for block in self._blocks(end, step, outcomes):
                begin, stop = self._offsets[block], min(end, self._stop(block))
                if scanned >= MAX_SCAN_BYTES:
                    return LedgerPage(lines=tuple(found), next_offset=stop)
                scanned += stop - begin
                file.seek(begin)
                for offset, line in _reversed_lines(begin, file.read(stop - begin)):
                    is_asked = (step is None or line.step == step) and (outcomes is None or line.outcome in outcomes)
                    if is_asked and accepts(line):
                        found.append(line)
                    if len(found) == size:
                        return LedgerPage(lines=tuple(found), next_offset=offset or None)
        return LedgerPage(lines=tuple(found), next_offset=None)

    def _blocks(self, end: int, step: int | None, outcomes: Collection[str] | None) -> Iterator[int]:
        """Blocks before `end` that may hold such lines, newest first."""
        wanted = -1 if outcomes is None else sum({1 << self._bits[each] for each in outcomes if each in self._bits})
        for block in range(len(self._offsets) - 1, -1, -1):
            has_step = step is None or self._min_steps[block] <= step <= self._max_steps[block]
            if self._offsets[block] < end and has_step and self._masks[block] & wanted:
                yield block

    def _stop(self, block: int) -> int:
        return self._offsets[block + 1] if block + 1 < len(self._offsets) else self._file.position

    def _forget(self) -> None:
        self._offsets: array[int] = array("q")
        self._min_steps: array[int] = array("q")
        self._max_steps: array[int] = array("q")
        self._masks: array[int] = array("q")
        self._bits: dict[str, int] = {}
        self._totals: Counter[str] = Counter()

    def _take(self, start: int, lines: bytes) -> None:
        ends = _END.findall(lines)
        outcomes = Counter(outcome.decode() for outcome, _ in ends)
        self._totals.update(outcomes)
        for each in outcomes:
            self._bits.setdefault(each, min(len(self._bits), MAX_OUTCOMES - 1))
        steps = [int(step) for _, step in ends] or [0]
        mask = sum({1 << self._bits[each] for each in outcomes})
        if self._offsets and start + len(lines) - self._offsets[-1] <= CHUNK_BYTES:
            self._min_steps[-1] = min(self._min_steps[-1], *steps)
            self._max_steps[-1] = max(self._max_steps[-1], *steps)
            self._masks[-1] |= mask
            return
        self._offsets.append(start)
        self._min_steps.append(min(steps))
        self._max_steps.append(max(steps))
        self._masks.append(mask)


def _reversed_lines(begin: int, data: bytes) -> Iterator[tuple[int, LedgerLine]]:
    """The last one first, each with its offset; what is no line of a ledger is passed over."""
    offset = begin + len(data)
    for raw in reversed(data.splitlines(keepends=True)):
        offset -= len(raw)
        try:
            yield offset, LedgerLine.from_plain(json.loads(raw))
        except (ValueError, TypeError, AttributeError):
            continue
