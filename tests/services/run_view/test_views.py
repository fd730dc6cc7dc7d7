"""The same for an event loop: one file at a time, and nobody who leaves holds it up."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from run_view_builders import make_run_dir, write_log

from services.run_view.refusals import NotFound
from services.run_view.view import RunView
from services.run_view.views import MAX_VIEWS, NUM_THREADS, AsyncRunView, RunViews


class SlowView(RunView):
    """Holds calls until the test lets them go, and notes how many run at once."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.may_go = threading.Event()
        self.started = threading.Semaphore(0)
        self.running = self.most = 0

    def group(self, group_id: str) -> bytes:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.release()
        self.may_go.wait(20)
        self.running -= 1
        if group_id == "bad":
            raise NotFound("group", "none")
        return group_id.encode()


@pytest.fixture
def executor() -> object:
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        yield threads


async def test_one_file_is_read_once_at_a_time_and_the_others_meanwhile(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    slow = SlowView(make_run_dir(tmp_path))
    view = AsyncRunView(slow, executor)
    calls = [asyncio.create_task(view.group(str(number))) for number in range(3 * NUM_THREADS)]
    await asyncio.to_thread(slow.started.acquire)
    # All threads but one are free: twelve calls for one file hold one.
    assert (await view.series(["step_s"]))["step"] == [1, 2, 3]
    assert await view.logs() is not None
    slow.may_go.set()
    assert await asyncio.gather(*calls) == [str(number).encode() for number in range(3 * NUM_THREADS)]
    assert slow.most == 1


async def test_a_client_that_leaves_frees_the_file_only_when_its_read_has_ended(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    slow = SlowView(make_run_dir(tmp_path))
    view = AsyncRunView(slow, executor)
    for group_id in ("one", "bad"):
        slow.may_go.clear()
        left = asyncio.create_task(view.group(group_id))
        await asyncio.to_thread(slow.started.acquire)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        waiting = asyncio.create_task(view.group("two"))
        await asyncio.sleep(0)
        assert slow.running == 1
        slow.may_go.set()
        assert await waiting == b"two"
        slow.started.acquire()
    assert slow.most == 1


async def test_a_refusal_reaches_who_asked(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    view = AsyncRunView(RunView(make_run_dir(tmp_path)), executor)
    with pytest.raises(NotFound):
        await view.group("nobody")
    assert await view.outcomes() == {"trained": 12}


async def test_following_waits_only_where_nothing_is_new(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    write_log(tmp_path, "driver", "old\n")
    view = AsyncRunView(RunView(tmp_path), executor)
    waits = 0

    async def wait(seconds: float) -> None:
        nonlocal waits
        assert seconds > 0
        waits += 1
        write_log(tmp_path, "driver", f"new {waits}\n")

    got: list[str] = []
    async for batch in view.follow_logs((await view.logs()).position, wait=wait):
        got += [each.text for each in batch.lines]
        if len(got) == 3:
            break
    assert (got, waits) == (["new 1", "new 2", "new 3"], 3)


async def test_views_are_kept_by_directory_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    views = RunViews()
    try:
        first = views.of(tmp_path / "0")
        assert views.of(tmp_path / "0") is first
        for number in range(1, MAX_VIEWS):
            views.of(tmp_path / str(number))
        assert views.of(tmp_path / "0") is first
        views.of(tmp_path / "one-more")
        assert views.of(tmp_path / "0") is first
        views.forget(tmp_path / "0")
        assert views.of(tmp_path / "0") is not first
    finally:
        views.close()
