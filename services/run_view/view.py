"""One run's directory, read.

Each file is indexed once and then read on from where it was left. A run that goes on from a checkpoint cuts its files
back; what is known of them is forgotten then. Blocking: call it from a thread, or through `services.run_view.views`.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from services.explain.marks import visible
from services.ledger import SKIPPED, TRAINED, LedgerLine
from services.run_dir import RECIPE_FILE
from services.run_view.byte_cache import ByteCache
from services.run_view.columns import Longs
from services.run_view.confined import ConfinedFolder
from services.run_view.distributions import EDGES, KINDS, count
from services.run_view.drawing import draw
from services.run_view.evaluations import StoredEvaluation, find_evaluation, list_evaluations
from services.run_view.ledger_file import LedgerFile
from services.run_view.logs import LogFilter, LogLines, Logs
from services.run_view.metrics_file import MetricsFile
from services.run_view.refusals import NotFound
from services.run_view.saved_checkpoints import SavedCheckpoint, SavedCheckpoints
from services.run_view.stored_groups import VERDICTS, StoredGroup, StoredGroups
from services.run_view.written_group import read_written
from shaping.errors import DataError, UserError
from shaping.groups import DropReason

OUTCOMES = (TRAINED, SKIPPED, *(f"dropped_{reason.value}" for reason in DropReason))
MAX_PAGE_SIZE = 500
CACHE_BYTES = 64 << 20

_PAGE_TOKEN = re.compile(r"\d{1,18}")


class Mask(Protocol):
    """Takes secrets out of what leaves (services/control/redaction.py)."""

    def text(self, text: str) -> str: ...

    def data(self, data: Any) -> Any: ...


class NoMask:
    """For a directory whose reader owns it."""

    def text(self, text: str) -> str:
        return text

    def data(self, data: Any) -> Any:
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGroup:
    """One group that ended. None: what only a group that was written down tells.

    Args:
        outcome: one of OUTCOMES.
        verdicts: mixed, all_correct or all_incorrect.
        is_stored: whether `RunView.group` has it.
    """

    group_id: str
    prompt_id: str
    step: int
    visit: int
    outcome: str
    verdicts: str | None
    num_correct: int | None
    num_rollouts: int | None
    num_tokens: int | None
    is_stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGroups:
    """Args:
    next_page_token: None on the last page.
    """

    items: tuple[ListedGroup, ...]
    next_page_token: str | None


class RunView:
    """Safe to use from several threads.

    Args:
        mask: what leaves passes it; numbers do not.
        clock: seconds since the epoch.
        cache: of drawn groups; several views may share one.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        mask: Mask | None = None,
        clock: Callable[[], float] = time.time,
        cache: ByteCache | None = None,
    ) -> None:
        self._folder = ConfinedFolder(run_dir)
        self._mask = mask or NoMask()
        self._clock = clock
        self._cache = cache or ByteCache(CACHE_BYTES)
        self._metrics = MetricsFile(self._folder)
        self._ledger = LedgerFile(self._folder)
        self._stored = StoredGroups(self._folder)
        self._logs = Logs(self._folder, self._mask.text)
        self._checkpoints = SavedCheckpoints(self._folder)
        self._processes_indexed = 0
        self._metrics_lock = threading.Lock()
        self._groups_lock = threading.Lock()

    # ---- numbers

    def series_names(self) -> tuple[str, ...]:
        """Of all numbers that the run has reported so far."""
        with self._metrics_lock:
            self._metrics.catch_up()
            return self._metrics.names

    def series(
        self,
        names: Sequence[str],
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        max_points: int = 1000,
    ) -> dict[str, Any]:
        """{"step": [...], "series": {name: [...]}} with null where a step has no such finite number.

        At most `max_points` steps, thinned as services/run_view/thinning.py says; names are those of
        services/run_view/metrics_file.py.

        Raises:
            UserError: a name that no run has, or too few points for so many names.
        """
        with self._metrics_lock:
            self._metrics.catch_up()
            return self._metrics.series(names, min_step=min_step, max_step=max_step, max_points=max_points)

    def outcomes(self, step: int | None = None) -> dict[str, int]:
        """Groups by how they ended, of one step or of the whole run."""
        if step is not None:
            with self._metrics_lock:
                self._metrics.catch_up()
                return self._metrics.outcomes(step)
        with self._groups_lock:
            self._catch_up_groups()
            return self._ledger.totals

    def distribution(self, kind: str, step: int | None = None) -> dict[str, Any]:
        """{"kind", "step", "edges", "counts", "n", "num_groups"}, see services/run_view/distributions.py.

        Args:
            step: that the groups were sampled for; None for the newest with a group that was written down.
        Raises:
            UserError: no such kind.
            NotFound: no group of this step was written down, or not with this number.
        """
        if kind not in KINDS:
            raise UserError(f"kind must be one of {', '.join(KINDS)}, got {kind[:80]!r}")
        with self._groups_lock:
            self._catch_up_groups()
            asked = self._stored.newest_step if step is None else step
            groups = self._stored.of_step(asked) if asked is not None else ()
            if asked is None or not groups:
                of_which = "any step" if asked is None else f"step {asked}"
                raise NotFound("distribution", f"no group of {of_which} was written down (run.dump_groups_per_step)")
            key = (self._folder.root, kind, asked, self._processes_indexed, *(each.offset for each in groups))
            kept = self._cache.get(key)
            counts = np.array(json.loads(kept), np.int64) if kept else self._count(kind, groups)
            self._cache.put(key, json.dumps(counts.tolist()).encode())
        numbers = {"counts": counts.tolist(), "n": int(counts.sum()), "num_groups": len(groups)}
        return {"kind": kind, "step": asked, "edges": list(EDGES[kind]), **numbers}

    # ---- groups

    def groups(
        self,
        *,
        step: int | None = None,
        outcome: str | None = None,
        page_size: int = 50,
        page_token: str | None = None,
    ) -> ListedGroups:
        """Groups that ended, the last to end first.

        A page may be short, or empty, before the last one: where few groups of a long run are what is asked for.

        Args:
            step: that trained them, or that they were sampled for where none did.
            outcome: one of OUTCOMES; or mixed, all_correct, all_incorrect, which are known of groups that were written
                down.
        Raises:
            UserError: no such outcome, size or token.
        """
        if outcome is not None and outcome not in (*OUTCOMES, *VERDICTS):
            raise UserError(f"outcome must be one of {', '.join((*OUTCOMES, *VERDICTS))}, got {outcome[:80]!r}")
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise UserError(f"page_size must lie in 1 to {MAX_PAGE_SIZE}, got {page_size}")
        if page_token and not _PAGE_TOKEN.fullmatch(page_token):
            raise UserError(f"page_token must be one that a page gave, got {page_token[:80]!r}")
        with self._groups_lock:
            self._catch_up_groups()
            page = self._ledger.page(
                step=step,
                outcomes=None if outcome is None or outcome in VERDICTS else {outcome},
                accepts=(lambda line: self._verdicts(line) == outcome) if outcome in VERDICTS else (lambda _: True),
                size=page_size,
                before=int(page_token) if page_token else None,
            )
            items = tuple(map(self._listed, page.lines))
        return ListedGroups(items=items, next_page_token=str(page.next_offset) if page.next_offset else None)

    def group(self, group_id: str) -> bytes:
        """One group, token by token, as JSON text; see services/run_view/written_group.py.

        Raises:
            NotFound: it was not written down.
            UserError: it is too long to be drawn.
        """
        with self._groups_lock:
            self._catch_up_groups()
            found = self._stored.find(group_id)
            if found is None:
                raise NotFound(
                    "group",
                    f"a group must have been written down to be shown, {group_id[:80]!r} was not; "
                    "run.dump_groups_per_step says how many of each step are",
                )
            key = (self._folder.root, "group", self._processes_indexed, found.offset)
            drawn = self._cache.get(key)
            if drawn is None:
                drawn = draw(self._stored.read(found), found, group_id)
                self._cache.put(key, drawn)
        # Masked on the way out, not before it is kept: secrets may be learned meanwhile.
        return self._mask.text(drawn.decode()).encode()

    # ---- logs

    def logs(
        self,
        *,
        component: str = "",
        worker: str = "",
        level: str = "",
        since_seconds: float | None = None,
        search: str = "",
        tail: int = 200,
    ) -> LogLines:
        """The last lines of all logs that pass; see `LogFilter`.

        Args:
            since_seconds: of the last so many seconds alone.
        Raises:
            UserError: no such level, or too many lines.
        """
        since = None if since_seconds is None else self._clock() - since_seconds
        wanted = LogFilter(component=component, worker=worker, level=level, since=since, search=search)
        return self._logs.tail(wanted, tail=tail)

    def logs_after(
        self, position: str, *, component: str = "", worker: str = "", level: str = "", search: str = ""
    ) -> LogLines:
        """Lines that were written since `position`, at most some megabytes of them; ask again for the rest.

        Raises:
            UserError: no such position or level.
        """
        return self._logs.after(position, LogFilter(component=component, worker=worker, level=level, search=search))

    # ---- checkpoints and evaluations

    def checkpoints(self) -> tuple[SavedCheckpoint, ...]:
        """Newest first; damaged ones too."""
        return tuple(map(self._masked_checkpoint, self._checkpoints.list()))

    def checkpoint(self, name: str) -> SavedCheckpoint:
        """Raises:
        NotFound: there is none of this name.
        """
        return self._masked_checkpoint(self._checkpoints.get(name))

    def pin_checkpoint(self, name: str, *, is_pinned: bool) -> SavedCheckpoint:
        """See `SavedCheckpoints.pin`."""
        return self._masked_checkpoint(self._checkpoints.pin(name, is_pinned=is_pinned))

    def delete_checkpoint(self, name: str, *, in_use: Collection[str] = ()) -> None:
        """See `SavedCheckpoints.delete`."""
        self._checkpoints.delete(name, in_use=in_use)

    def evaluations(self) -> tuple[StoredEvaluation, ...]:
        """Newest first."""
        return tuple(map(self._masked, list_evaluations(self._folder, self._reports())))

    def evaluation(self, name: str) -> StoredEvaluation:
        """Raises:
        NotFound: there is none of this name.
        """
        return self._masked(find_evaluation(self._folder, self._reports(), name))

    # ---- the recipe

    def recipe(self) -> Any:
        """The resolved recipe that the run began with, secrets masked.

        Raises:
            NotFound: there is none yet.
            DataError: it cannot be read.
        """
        try:
            with self._folder.open(RECIPE_FILE) as file:
                return self._mask.data(yaml.safe_load(file.read()))
        except FileNotFoundError as error:
            raise NotFound("config", f"a run must have begun to have {RECIPE_FILE}, found none") from error
        except yaml.YAMLError as error:
            raise DataError(f"{RECIPE_FILE} must be YAML, found: {' '.join(str(error).split())}") from error

    def config_text(self) -> str:
        """The same as YAML text, as the file has it."""
        text: str = yaml.safe_dump(self.recipe(), sort_keys=False, allow_unicode=True)
        return text

    # ---- inside

    def _catch_up_groups(self) -> None:
        with self._metrics_lock:
            self._metrics.catch_up()
            num_processes = self._metrics.num_processes
        if num_processes != self._processes_indexed:
            # Each process of a run begins by cutting its files back; a ledger may look the same behind the cut.
            self._processes_indexed = num_processes
            self._ledger.restart()
            self._stored.restart()
        self._ledger.catch_up()
        self._stored.catch_up()

    def _reports(self) -> dict[int, dict[str, Any]]:
        with self._metrics_lock:
            self._metrics.catch_up()
            return self._metrics.evaluations

    def _count(self, kind: str, groups: Sequence[StoredGroup]) -> Longs:
        # One at a time: a group may be tens of megabytes of text.
        counted = [count(kind, read_written(self._stored.read(each))) for each in groups]
        return np.asarray(np.sum(counted, axis=0), np.int64)

    def _verdicts(self, line: LedgerLine) -> str | None:
        stored = self._stored.find(line.group_id)
        return stored.verdicts if stored else None

    def _listed(self, line: LedgerLine) -> ListedGroup:
        stored = self._stored.find(line.group_id)
        return ListedGroup(
            group_id=line.group_id,
            prompt_id=visible(self._mask.text(line.prompt_id), is_ascii=False),
            step=line.step,
            visit=line.visit,
            outcome=line.outcome,
            verdicts=stored.verdicts if stored else None,
            num_correct=stored.num_correct if stored else None,
            num_rollouts=stored.num_rollouts if stored else None,
            num_tokens=stored.num_tokens if stored else None,
            is_stored=stored is not None,
        )

    def _masked(self, evaluation: StoredEvaluation) -> StoredEvaluation:
        benchmarks, details = self._mask.data(evaluation.benchmarks), self._mask.data(evaluation.details)
        return replace(evaluation, benchmarks=benchmarks, details=details, problem=self._mask.text(evaluation.problem))

    def _masked_checkpoint(self, found: SavedCheckpoint) -> SavedCheckpoint:
        return replace(found, tag=self._mask.text(found.tag), problem=self._mask.text(found.problem))
