"""Laws of the killable pool: every call ends, what gave no verdict says why, and nothing else is lost."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from group_builders import make_request

from shaping.components import ComponentSpec, load
from shaping.config import RewardConfig, VerifierConfig
from shaping.errors import RecipeError, RoleDied, RunFailed
from shaping.groups import VerdictStatus
from shaping.rewards.base import Reward, RewardResult
from shaping.verification.pool import MAX_CHUNK, ScoreTask, VerifierPool
from shaping.verification.processes import MAX_CALLS
from shaping.verification.worker import parse_line

FOLDER = "tests.shaping.verification.rewards"
MISBEHAVING = RewardConfig(kind="misbehaving")
SECONDS = 1.0
CORRECT, CRASHED, TIMED_OUT = VerdictStatus.CORRECT, VerdictStatus.CRASHED, VerdictStatus.TIMED_OUT


def make_pool(
    *rewards: RewardConfig, num_processes: int = 1, call_seconds: float = SECONDS, folder: str = FOLDER
) -> VerifierPool:
    config = VerifierConfig(num_processes=num_processes, call_seconds=call_seconds)
    return VerifierPool(config, rewards or (MISBEHAVING,), folder=folder)


def task(text: str, reference: str = "5", reward: RewardConfig = MISBEHAVING) -> ScoreTask:
    return ScoreTask(reward=reward, request=make_request(text, reference_answer=reference))


def score(pool: VerifierPool, *texts: str) -> list[RewardResult]:
    return pool.score([task(text) for text in texts])


def extracted(results: list[RewardResult]) -> list[str]:
    return [result.verdict.extracted for result in results]


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with make_pool() as made:
        yield made


def test_results_come_in_the_order_of_their_tasks() -> None:
    with make_pool(num_processes=2) as pool:
        words = [str(index) for index in range(100)]
        results = score(pool, *(f"say {word}" for word in words))
    assert extracted(results) == words
    assert [result.value for result in results] == [float(word == "5") for word in words]
    assert [result.verdict.correct for result in results] == [word == "5" for word in words]


def test_nothing_to_judge_is_judged_at_once(pool: VerifierPool) -> None:
    assert pool.score([]) == []


def test_equal_tasks_are_judged_once(pool: VerifierPool, tmp_path: Path) -> None:
    texts = [f"log {tmp_path / 'calls'} {word}" for word in ("a", "b", "a", "a")]
    assert extracted(score(pool, *texts)) == ["a", "b", "a", "a"]
    assert (tmp_path / "calls").read_text().split() == ["a", "b"]


def test_a_call_beyond_its_deadline_is_timed_out_and_those_behind_it_are_judged(pool: VerifierPool) -> None:
    before = extracted(score(pool, "pid"))
    first, hanging, *rest = score(pool, "say 5", "hang", "say 6", "pid", "say 5")
    assert hanging.verdict.status is TIMED_OUT
    assert hanging.verdict.detail == "no verdict within 1 s"
    assert first.verdict.correct
    assert extracted(rest)[::2] == ["6", "5"]
    assert extracted(rest)[1] != before[0]


def test_workers_that_a_call_cost_are_counted_once(pool: VerifierPool) -> None:
    pool.take_restarts()
    score(pool, "say 5", "hang", "vanish 3", "fail one")
    # A call that raises costs no worker.
    assert [pool.take_restarts(), pool.take_restarts()] == [2, 0]


def test_a_worker_that_died_between_calls_is_counted_and_one_that_is_worn_is_not() -> None:
    with make_pool() as pool:
        pid = int(extracted(score(pool, "pid"))[0])
        os.kill(pid, signal.SIGKILL)
        score(pool, "say 5")
        assert pool.take_restarts() == 1
        score(pool, *(f"say {index}" for index in range(MAX_CALLS + 1)), "pid")
        assert pool.take_restarts() == 0


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("exit 3", "its process ended with exit code 1"),
        ("vanish 3", "its process ended with exit code 3"),
        ("die SIGSEGV", "its process ended with SIGSEGV"),
        ("die SIGKILL", "its process ended with SIGKILL"),
        ("fail one\ntwo", "misbehaving: RuntimeError: one two"),
        ("fail a\x1b[2J\ud800\u202eb", r"misbehaving: RuntimeError: a\x1b[2J\ud800\u202eb"),
        ("nothing", "misbehaving: AttributeError: 'NoneType' object has no attribute 'value'"),
        ("nan", "misbehaving: ValueError: a reward must be finite, got nan"),
        ("infinite", "misbehaving: ValueError: a reward must be finite, got inf"),
        ("recurse ", "misbehaving: RecursionError: maximum recursion depth exceeded"),
        # The default limit is 2 GiB.
        ("hold 3000", "misbehaving: needed more memory than 2048 MiB"),
        ("open_files 1000", "misbehaving: OSError: [Errno 24] Too many open files: '/dev/null'"),
    ],
)
def test_a_call_that_fails_is_crashed_with_its_cause(pool: VerifierPool, text: str, cause: str) -> None:
    failed, after = score(pool, text, "say 5")
    assert (failed.verdict.status, failed.verdict.detail) == (CRASHED, cause)
    assert after.verdict.correct


@pytest.mark.parametrize(
    "rubbish",
    [
        *(b"no json", b"\x80\x04.", b'{"__reduce__": 1}', b"[" * 50_000, b"[]", b"null", b""),
        *(b'[8, 1.0, "correct", "5", "", 0]', b'[7, 1.0, "right", "5", "", 0]', b'[7, NaN, "correct", "5", "", 0]'),
        *(
            b'[7, 1.0, "correct", ["5"], "", 0]',
            b'[7, 1.0, "correct", "5", "", 0, 0]',
            b'[true, 1, "correct", "5", "", 0]',
        ),
    ],
)
def test_a_line_that_is_no_result_of_this_call_is_refused(rubbish: bytes) -> None:
    with pytest.raises(ValueError, match=r"a worker must answer call 7|codec can't decode|Expecting value|not a valid"):
        parse_line(rubbish, 7)


@pytest.mark.parametrize("rubbish", ["no json\n", "[" * 50_000 + "\n", "x" * 70_000 + "...", "x" * 1_000_000 + "..."])
def test_what_a_worker_writes_beside_its_results_never_becomes_a_verdict(pool: VerifierPool, rubbish: str) -> None:
    lied, after = score(pool, f"write {rubbish}", "say 5")
    assert lied.verdict.status is CRASHED
    assert lied.verdict.detail
    assert after.verdict.correct


def test_half_a_line_is_no_verdict(pool: VerifierPool) -> None:
    assert score(pool, 'write [0, 1.0, "correct", ...')[0].verdict.status is TIMED_OUT


def test_a_line_too_many_is_not_taken_for_that_of_the_next_call() -> None:
    with make_pool() as pool:
        # A worker's calls are counted from 0: the forged line passes, and its own is left over.
        lied, after = score(pool, 'write [0, 1.0, "correct", "5", "", 0]\n', "say 5")
        assert lied.verdict.correct
        assert after.verdict.status in (CORRECT, CRASHED)
        assert extracted(score(pool, "say 7")) == ["7"]


def test_prints_reach_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with make_pool() as pool:
        assert extracted(score(pool, "show \x1b[2Jboo")) == ["0"]
    assert capfd.readouterr() == ("", "")


def test_a_long_answer_is_cut(pool: VerifierPool) -> None:
    (result,) = score(pool, f"long {10**7}")
    assert result.verdict.extracted == "x" * 4096


@pytest.mark.parametrize("text", ["\ud800", "\udfff\ud800x", "\x00", "\u202e", "\U0001f600" * 3, "é\r\n"])
def test_every_text_survives_the_way_there_and_back(pool: VerifierPool, text: str) -> None:
    (result,) = pool.score([task(f"say {text}", text)])
    assert result.verdict.correct
    assert result.verdict.extracted == text


def test_a_worker_is_replaced_after_its_share_of_calls(pool: VerifierPool) -> None:
    score(pool, "hang")
    pids = extracted(score(pool, *(f"pid {index}" for index in range(2 * MAX_CALLS))))
    # A chunk is not broken off.
    assert all(pids.count(pid) <= MAX_CALLS + MAX_CHUNK for pid in pids[::MAX_CALLS])
    assert 2 <= len(set(pids)) <= 3


def test_a_worker_that_grew_is_replaced(pool: VerifierPool) -> None:
    pids = [extracted(score(pool, text))[0] for text in ("pid 1", "hold 10", "pid 2", "hold 500", "pid 3")]
    assert pids[0] == pids[2] != pids[4]


def test_threads_get_their_own_results() -> None:
    with make_pool(num_processes=2) as pool, ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda n: extracted(score(pool, *(f"say {n}-{i}" for i in range(50)))), range(40))
        assert list(found) == [[f"{n}-{i}" for i in range(50)] for n in range(40)]


def test_a_large_batch_does_not_starve_a_small_one(pool: VerifierPool, tmp_path: Path) -> None:
    order, gate = tmp_path / "order", tmp_path / "gate"
    order.touch()
    with ThreadPoolExecutor() as threads, make_pool(call_seconds=60.0) as pool:
        large = threads.submit(score, pool, f"wait_for {gate}", *(f"log {order} {i}" for i in range(500)))
        while not pool._batches:
            threading.Event().wait(0.001)
        small = threads.submit(score, pool, f"log {order} small")
        while len(pool._batches) < 2:
            threading.Event().wait(0.001)
        gate.touch()
        small.result()
        large.result()
    # Behind the chunk under way and the next one that was taken from the large batch.
    assert order.read_text().split().index("small") <= 2 * MAX_CHUNK


async def test_an_event_loop_is_not_blocked() -> None:
    with make_pool(num_processes=2) as pool:
        batches = [[task(f"say {n}-{i}") for i in range(20)] for n in range(30)]
        found = await asyncio.gather(*map(pool.score_async, batches))
        assert [extracted(each) for each in found] == [[f"{n}-{i}" for i in range(20)] for n in range(30)]
        hanging = asyncio.ensure_future(pool.score_async([task("hang")]))
        assert extracted(await pool.score_async([task("say 5")])) == ["5"]
        assert not hanging.done()
        assert (await hanging)[0].verdict.status is TIMED_OUT


async def test_what_a_cancelled_caller_waited_for_is_not_judged(tmp_path: Path) -> None:
    gate, calls = tmp_path / "gate", tmp_path / "calls"
    texts = [f"wait_for {gate}", *(f"log {calls} {index}" for index in range(100))]
    with make_pool(call_seconds=60.0) as pool:
        asked = asyncio.ensure_future(pool.score_async([task(text) for text in texts]))
        while not pool._open:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        gate.touch()
        assert extracted(await pool.score_async([task("say 5")])) == ["5"]
        with pool._changed:
            assert not pool._open
    # The first chunk was under way; where even that was not, nothing was judged.
    assert not calls.exists() or len(calls.read_text().split()) < MAX_CHUNK


def test_a_reward_seen_later_is_loaded_then(pool: VerifierPool) -> None:
    other = RewardConfig(kind="misbehaving", weight=3.0, options={"known": "say 5"})
    assert pool.score([task("say 5", reward=other), task("say 6")])[0].verdict.correct
    with pytest.raises(RecipeError, match="did you mean 'misbehaving'"):
        pool.score([task("5", reward=RewardConfig(kind="misbehavin"))])
    with pytest.raises(RecipeError, match="unknown option 'knwon'; did you mean 'known'"):
        pool.score([task("5", reward=RewardConfig(kind="misbehaving", options={"knwon": "5"}))])
    assert score(pool, "say 5")[0].verdict.correct


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ("say 6", "got wrong;"),
        ("hang", "got timed_out no verdict within 1 s;"),
        ("fail x", "got crashed misbehaving:"),
    ],
)
def test_a_verifier_that_misjudges_a_known_answer_ends_the_run_at_its_start(known: str, found: str) -> None:
    reward = RewardConfig(kind="misbehaving", options={"known": known})
    pool = make_pool(reward, call_seconds=SECONDS)
    with pytest.raises(RunFailed, match=f"shaping: misbehaving must judge '{known}' against '5' as correct, {found}"):
        pool.start()


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            "unloadable",
            RunFailed,
            "unloadable does not load: ModuleNotFoundError: No module named 'no_such_verifier_lib",
        ),
        ("unknown", RecipeError, "no rewards kind 'unknown'"),
    ],
)
def test_a_reward_that_cannot_be_loaded_ends_the_run_at_its_start(kind: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make_pool(RewardConfig(kind=kind)).start()


def test_a_pool_that_is_not_open_says_so() -> None:
    pool = make_pool()
    with pytest.raises(RunFailed, match="judges nothing any more: it was not started"):
        score(pool, "say 5")
    pool.start()
    pool.close()
    pool.close()
    with pytest.raises(RunFailed, match="judges nothing any more: it was closed"):
        score(pool, "say 5")
    with pytest.raises(ValueError, match="a verifier pool needs a process, got num_processes 0"):
        make_pool(num_processes=0)


def test_a_pool_whose_fork_server_was_killed_judges_again_once_it_is_started_again() -> None:
    later = RewardConfig(kind="misbehaving", options={"known": "say 5"})
    with make_pool(num_processes=2) as pool:
        assert pool.score([task("say 5", reward=later)])[0].verdict.correct
        os.kill(server_of(pool), signal.SIGKILL)
        with pytest.raises(RoleDied, match="the verifiers' fork server ended with SIGKILL"):
            for index in range(2 * MAX_CALLS):
                score(pool, f"vanish {index % 100}")
        pool.start()
        assert pool.score([task("say 5"), task("say 5", reward=later)])[1].verdict.correct
        # Threads of the first start would have ended the second by now.
        assert extracted(score(pool, "vanish 1", "say 5", "say 6"))[1:] == ["5", "6"]


def server_of(pool: VerifierPool) -> int:
    assert pool._server is not None
    return pool._server._process.pid


TEXTS = ["", "5", r"\boxed{5}", r"\boxed{\frac{10}{2}}", r"\boxed{6}", r"\boxed{", "#### 5", "\x00\ud7ff", "[" * 3000]


def test_the_pool_judges_as_the_reward_itself_does() -> None:
    kinds = ("math_answer", "numeric_answer", "exact_match")
    rewards = [RewardConfig(kind=kind) for kind in kinds]
    with make_pool(*rewards, call_seconds=5.0, folder="shaping.rewards") as pool:
        pooled = pool.score([task(text, reward=reward) for reward in rewards for text in TEXTS])
    built: list[Reward] = [load("shaping.rewards", ComponentSpec(kind=kind), "test").build() for kind in kinds]
    assert pooled == [reward.score(make_request(text)) for reward in built for text in TEXTS]
