"""The directories of runs for an event loop: blocking reads go to a few threads, and each file to one at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from services.run_view.byte_cache import ByteCache
from services.run_view.evaluations import StoredEvaluation
from services.run_view.logs import LogLines
from services.run_view.saved_checkpoints import SavedCheckpoint
from services.run_view.view import CACHE_BYTES, ListedGroups, Mask, RunView

NUM_THREADS = 4
MAX_VIEWS = 16
FOLLOW_SECONDS = 0.5

_Answer = TypeVar("_Answer")


class AsyncRunView:
    """`RunView` with the same calls; each waits its turn for its file without holding a thread."""

    def __init__(self, view: RunView, executor: ThreadPoolExecutor) -> None:
        self._view = view
        self._executor = executor
        self._turns = {name: asyncio.Lock() for name in ("metrics", "groups", "logs", "checkpoints", "evaluations")}

    async def series_names(self) -> tuple[str, ...]:
        return await self._call("metrics", self._view.series_names)

    async def series(self, names: Sequence[str], **options: Any) -> dict[str, Any]:
        return await self._call("metrics", partial(self._view.series, names, **options))

    async def outcomes(self, step: int | None = None) -> dict[str, int]:
        return await self._call("metrics" if step is not None else "groups", partial(self._view.outcomes, step))

    async def distribution(self, kind: str, step: int | None = None) -> dict[str, Any]:
        return await self._call("groups", partial(self._view.distribution, kind, step))

    async def groups(self, **options: Any) -> ListedGroups:
        return await self._call("groups", partial(self._view.groups, **options))

    async def group(self, group_id: str) -> bytes:
        return await self._call("groups", partial(self._view.group, group_id))

    async def logs(self, **options: Any) -> LogLines:
        return await self._call("logs", partial(self._view.logs, **options))

    async def logs_after(self, position: str, **options: Any) -> LogLines:
        return await self._call("logs", partial(self._view.logs_after, position, **options))

    async def follow_logs(
        self, position: str, *, wait: Callable[[float], Awaitable[object]] = asyncio.sleep, **options: Any
    ) -> AsyncIterator[LogLines]:
        """What is new, as it comes; each batch with the position behind it. For ever: whoever reads ends it.

        Args:
            position: of an answer of `logs`.
            wait: called with seconds between two looks at files that had nothing new.
        """
        while True:
            found = await self.logs_after(position, **options)
            if found.lines:
                yield found
            if found.position == position:
                await wait(FOLLOW_SECONDS)
            position = found.position

    async def checkpoints(self) -> tuple[SavedCheckpoint, ...]:
        return await self._call("checkpoints", self._view.checkpoints)

    async def checkpoint(self, name: str) -> SavedCheckpoint:
        return await self._call("checkpoints", partial(self._view.checkpoint, name))

    async def pin_checkpoint(self, name: str, *, is_pinned: bool) -> SavedCheckpoint:
        return await self._call("checkpoints", partial(self._view.pin_checkpoint, name, is_pinned=is_pinned))

    async def delete_checkpoint(self, name: str, *, in_use: Collection[str] = ()) -> None:
        await self._call("checkpoints", partial(self._view.delete_checkpoint, name, in_use=in_use))

    async def evaluations(self) -> tuple[StoredEvaluation, ...]:
        return await self._call("evaluations", self._view.evaluations)

    async def evaluation(self, name: str) -> StoredEvaluation:
        return await self._call("evaluations", partial(self._view.evaluation, name))

    async def recipe(self) -> Any:
        return await self._call("metrics", self._view.recipe)

    async def config_text(self) -> str:
        return await self._call("metrics", self._view.config_text)

    async def _call(self, file: str, call: Callable[[], _Answer]) -> _Answer:
        turn = self._turns[file]
        await turn.acquire()
        running = asyncio.get_running_loop().run_in_executor(self._executor, call)

        def done(ended: asyncio.Future[_Answer]) -> None:
            turn.release()
            # A client that has left asks for no answer, and for no error either.
            if not ended.cancelled():
                ended.exception()

        running.add_done_callback(done)
        # The thread goes on without the client, and so does its turn.
        return await asyncio.shield(running)


class RunViews:
    """Views by directory; the one that was used longest ago is forgotten first.

    Args:
        mask: takes secrets out of what leaves.
    """

    def __init__(self, *, mask: Mask | None = None) -> None:
        self._mask = mask
        self._executor = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="run-view")
        self._cache = ByteCache(CACHE_BYTES)
        self._views: OrderedDict[Path, AsyncRunView] = OrderedDict()

    def of(self, run_dir: Path) -> AsyncRunView:
        """The view of a run's directory."""
        if run_dir not in self._views:
            view = RunView(run_dir, mask=self._mask, cache=self._cache)
            self._views[run_dir] = AsyncRunView(view, self._executor)
        self._views.move_to_end(run_dir)
        while len(self._views) > MAX_VIEWS:
            self._views.popitem(last=False)
        return self._views[run_dir]

    def forget(self, run_dir: Path) -> None:
        """Of a run that was deleted."""
        self._views.pop(run_dir, None)

    def close(self) -> None:
        """Take no more calls; those under way end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
