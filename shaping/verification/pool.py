"""The killable pool: rewards judge responses in processes that end when a call runs too long, eats memory or crashes.

Flow: score tasks in; workers take small chunks of them in turn from every caller's batch; results out, in order. A call
that gave no verdict says why (timed_out, crashed) and costs its worker, which is replaced at once; the calls behind it
are judged by another. Knows no groups and no weights.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Self

from shaping.config import RewardConfig, VerifierConfig
from shaping.errors import RoleDied, RunFailed
from shaping.groups import VerdictStatus
from shaping.rewards.base import RewardResult
from shaping.verification.fork_server import Known, known_request
from shaping.verification.judge import ScoreTask, reward_key
from shaping.verification.processes import ServerProcess, Worker
from shaping.verification.worker import Call, no_verdict

MAX_CHUNK = 16

_Numbered = tuple[int, Call]
"""A call and which result of its batch it gives."""


class _Batch:
    """The calls of one caller, and their results as they come. Guarded by the pool's lock."""

    def __init__(self, calls: Sequence[_Numbered]) -> None:
        self.waiting = deque(calls)
        self.done: Future[list[RewardResult]] = Future()
        self._results: dict[int, RewardResult] = {}
        self._num_calls = len(calls)

    def take(self, num_processes: int) -> list[_Numbered]:
        """The next calls for one process: a share that leaves some for the others."""
        size = min(MAX_CHUNK, -(-len(self.waiting) // (2 * num_processes)))
        return [self.waiting.popleft() for _ in range(size)]

    def settle(self, number: int, result: RewardResult) -> bool:
        """Keep the result of a call; whether it was the last."""
        self._results[number] = result
        if len(self._results) < self._num_calls:
            return False
        # Its caller may have cancelled.
        with suppress(InvalidStateError):
            self.done.set_result([self._results[each] for each in range(self._num_calls)])
        return True


class VerifierPool:
    """Judges responses in processes of its own. Usable from any thread and any event loop.

    Args:
        config: how many processes, and the limits of one call.
        rewards: loaded by `start`; others when a task first names them.
        folder: package in which a reward's kind is a file.
    """

    def __init__(
        self, config: VerifierConfig, rewards: Sequence[RewardConfig], *, folder: str = "shaping.rewards"
    ) -> None:
        if config.num_processes < 1:
            raise ValueError(f"a verifier pool needs a process, got num_processes {config.num_processes}")
        self._config = config
        self._folder = folder
        self._first_rewards = tuple(rewards)
        self._indices: dict[str, int] = {}
        self._server: ServerProcess | None = None
        self._threads: list[threading.Thread] = []
        self._loading = threading.Lock()
        self._changed = threading.Condition()
        self._batches: deque[_Batch] = deque()
        self._open: set[_Batch] = set()
        self._ended = "it was not started"
        self._num_restarts = 0

    def start(self) -> None:
        """Load the rewards, start the processes, and judge the rewards' known answers; also again, when the pool ended.

        Raises:
            RecipeError: a reward has an unknown kind or option.
            RunFailed: a process did not start, or a known answer got another verdict.
        """
        # A new server knows no reward, and a thread of an earlier start would end this one too.
        self.close()
        self._indices, self._threads = {}, []
        self._server = ServerProcess(self._config, self._folder)
        self._ended = ""
        try:
            known = self._load(self._first_rewards)
            for index in range(self._config.num_processes):
                thread = threading.Thread(
                    target=self._work, args=(self._server,), name=f"verifier-{index}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            self._test(known)
        except BaseException:
            self.close()
            raise

    def score(self, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
        """Results in order; equal tasks are judged once. Blocks; never raises for anything a policy wrote.

        Raises:
            RecipeError: a task's reward has an unknown kind or option.
            RunFailed: the pool was closed, or its processes cannot be started any more.
        """
        self._prepare(tasks)
        batch, order = self._submit(tasks)
        results = batch.done.result()
        return [results[number] for number in order]

    async def score_async(self, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
        """As `score`; what a cancelled caller still waited for is not judged."""
        await asyncio.to_thread(self._prepare, tasks)
        batch, order = self._submit(tasks)
        results = await asyncio.wrap_future(batch.done)
        return [results[number] for number in order]

    def take_restarts(self) -> int:
        """Workers that were killed for a call or died, since this was last asked; not those that were merely worn."""
        with self._changed:
            taken, self._num_restarts = self._num_restarts, 0
            return taken

    def close(self) -> None:
        """End all processes. Calls under way raise RunFailed. May be called twice."""
        self._end("it was closed")
        if self._server is not None:
            self._server.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, tasks: Sequence[ScoreTask]) -> None:
        """Load and test the rewards that are new."""
        known = self._load([task.reward for task in tasks])
        if known:
            self._test(known)

    def _submit(self, tasks: Sequence[ScoreTask]) -> tuple[_Batch, list[int]]:
        """The batch of the distinct tasks, and which of its results each task has."""
        numbers: dict[Call, int] = {}
        order = [
            numbers.setdefault((self._indices[reward_key(task.reward)], task.request), len(numbers)) for task in tasks
        ]
        batch = _Batch([(number, call) for call, number in numbers.items()])
        with self._changed:
            self._refuse_when_ended()
            if batch.waiting:
                self._open.add(batch)
                self._batches.append(batch)
                self._changed.notify_all()
            else:
                batch.done.set_result([])
        return batch, order

    def _load(self, rewards: Sequence[RewardConfig]) -> list[tuple[RewardConfig, Known]]:
        """Load those that no worker knows yet, with their known answers."""
        wanted = {reward_key(reward): reward for reward in rewards}
        if wanted.keys() <= self._indices.keys():
            return []
        with self._loading:
            self._refuse_when_ended()
            assert self._server is not None, "a pool that did not end was started"
            new = {key: reward for key, reward in wanted.items() if key not in self._indices}
            known = self._server.load(tuple(new.values()))
            self._indices |= {key: len(self._indices) + offset for offset, key in enumerate(new)}
            return list(zip(new.values(), known, strict=True))

    def _test(self, known: Sequence[tuple[RewardConfig, Known]]) -> None:
        """A verifier that answers nonsense ends a run before it poisons it."""
        pairs = [(reward, each) for reward, answers in known for each in answers]
        batch, order = self._submit([ScoreTask(reward=reward, request=known_request(each)) for reward, each in pairs])
        results = batch.done.result()
        for (reward, each), number in zip(pairs, order, strict=True):
            result = results[number]
            if result.verdict.status is not each.status:
                found = f"{result.verdict.status} {result.verdict.detail}".strip()
                cause = (
                    f"{reward.kind} must judge {each.response_text!r} against {each.reference_answer!r} as "
                    f"{each.status}, got {found}; its options or the installation of what it imports are at fault"
                )
                self._end(cause)
                raise RunFailed(role="shaping", cause=cause)
        if self._server is not None:
            self._server.warm()

    def _refuse_when_ended(self) -> None:
        if self._ended:
            raise self._failure()

    def _failure(self) -> RoleDied:
        return RoleDied(role="shaping", cause=f"the verifier pool judges nothing any more: {self._ended}")

    def _end(self, cause: str) -> None:
        """Answer all callers, now and later, that the pool ended; the first cause stays."""
        with self._changed:
            self._ended = self._ended or cause
            self._batches.clear()
            for batch in self._open:
                with suppress(InvalidStateError):
                    batch.done.set_exception(self._failure())
            self._open.clear()
            self._changed.notify_all()

    def _work(self, server: ServerProcess) -> None:
        """In a thread of its own: one worker process after the other."""
        worker = None
        try:
            while (taken := self._take()) is not None:
                worker = self._ready(server, worker)
                if not self._judge(worker, *taken):
                    worker = self._ready(server, None)
        except RunFailed as error:
            self._end(error.cause)
        finally:
            # Where this thread failed in a way that nobody foresaw, no caller shall wait for it.
            self._end("one of its threads failed")
            if worker is not None:
                worker.close()

    def _ready(self, server: ServerProcess, worker: Worker | None) -> Worker:
        """The worker, or a new one where it is none, worn, or older than the rewards."""
        num_rewards = len(self._indices)
        if worker is not None and (worker.is_worn or worker.num_rewards < num_rewards):
            with self._changed:
                self._num_restarts += worker.is_broken
            worker.end()
            worker = None
        return worker or Worker(server, num_rewards)

    def _take(self) -> tuple[_Batch, list[_Numbered]] | None:
        """The next calls, from the batch that waited longest; None when the pool ended."""
        with self._changed:
            while not self._ended:
                if not self._batches:
                    self._changed.wait()
                    continue
                batch = self._batches.popleft()
                if batch.done.cancelled():
                    self._open.discard(batch)
                    continue
                calls = batch.take(self._config.num_processes)
                if batch.waiting:
                    self._batches.append(batch)
                return batch, calls
        return None

    def _judge(self, worker: Worker, batch: _Batch, calls: list[_Numbered]) -> bool:
        """Have calls judged. False when one of them cost the worker; those behind it wait again."""
        seconds = self._config.call_seconds
        status, reason = VerdictStatus.CRASHED, ""
        left = deque(calls)
        try:
            worker.send([call for _, call in calls], seconds)
            while left:
                result = worker.receive(seconds)
                self._settle(batch, left.popleft(), result)
            return True
        except TimeoutError:
            status, reason = VerdictStatus.TIMED_OUT, f"no verdict within {seconds:g} s"
        except ValueError as error:
            reason = str(error)
        except (EOFError, OSError):
            pass
        ended = worker.end()
        result = no_verdict(status, reason or f"its process ended with {ended}")
        with self._changed:
            self._num_restarts += 1
            lost = left.popleft()
            batch.waiting.extendleft(reversed(left))
            if left and batch not in self._batches and not self._ended:
                self._batches.append(batch)
                self._changed.notify_all()
        self._settle(batch, lost, result)
        return False

    def _settle(self, batch: _Batch, call: _Numbered, result: RewardResult) -> None:
        with self._changed:
            if batch.settle(call[0], result):
                self._open.discard(batch)
