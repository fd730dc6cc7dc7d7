"""The pool's side of the fork server and of one worker: calls out, results in, each with its own deadline."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing import Pipe
from multiprocessing.connection import wait
from multiprocessing.reduction import send_handle
from typing import Any

from shaping.config import RewardConfig, VerifierConfig
from shaping.errors import LessrlError, RoleDied
from shaping.rewards.base import RewardResult
from shaping.verification.fork_server import Known
from shaping.verification.worker import Call, parse_line

LOAD_SECONDS = 120.0
CLOSE_SECONDS = 10.0
MAX_LINE_BYTES = 64 * 1024
MAX_CALLS = 1000
MAX_GROWTH_BYTES = 256 * 1024**2


class ServerProcess:
    """The fork server's process. Usable from several threads.

    Args:
        folder: package of the rewards.
    """

    def __init__(self, config: VerifierConfig, folder: str) -> None:
        self._lock = threading.Lock()
        self._pipe, other = Pipe()
        # -P: modules come from where this process has them, not from the current folder first.
        command = [sys.executable, "-P", "-m", "shaping.verification.fork_server", str(other.fileno())]
        # Its own session: Ctrl-C in a terminal is for the run to answer. One order of sets, so that verdicts repeat.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        with other:
            self._process = subprocess.Popen(
                command,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
            )
        self._ask((config, folder))

    def load(self, rewards: Sequence[RewardConfig]) -> tuple[Known, ...]:
        """Import and build rewards for the workers forked from now on; known answers of each.

        Raises:
            RecipeError: an unknown kind or option.
            RunFailed: one cannot be imported, or the server ended.
        """
        with self._lock:
            self._ask(("load", tuple(rewards)))
            return tuple(self._answer())

    def warm(self) -> None:
        """Judge the known answers in the server, so that later workers need not begin with empty caches."""
        with self._lock:
            self._ask("warm")
            self._answer()

    def fork(self, handle: socket.socket) -> int:
        """A new worker that answers over `handle`; its process id."""
        with self._lock:
            self._ask("fork", handle)
            return int(self._answer())

    def end(self, pid: int) -> int:
        """Kill a worker and whatever it started; its wait status."""
        with self._lock:
            self._ask(("end", pid))
            return int(self._answer())

    def close(self) -> None:
        """End the server, its workers and what they started."""
        with self._lock:
            self._pipe.close()
        self._wait()

    def _ask(self, command: object, handle: socket.socket | None = None) -> None:
        try:
            self._pipe.send(command)
            if handle is not None:
                send_handle(self._pipe, handle.fileno(), self._process.pid)
        except OSError:
            raise self._died() from None

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(LOAD_SECONDS):
                self._process.kill()
                raise RoleDied(role="shaping", cause=f"the verifiers' fork server did not answer in {LOAD_SECONDS:g} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if isinstance(answer, LessrlError):
            raise answer
        return answer

    def _died(self) -> RoleDied:
        if self._pipe.closed:
            return RoleDied(role="shaping", cause="the verifier pool was closed")
        return RoleDied(role="shaping", cause=f"the verifiers' fork server ended with {_in_words(self._wait())}")

    def _wait(self) -> int:
        """Its exit code, negative for a signal."""
        try:
            return self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Worker:
    """One worker process and the socket over which it is asked. For one thread at a time.

    Args:
        num_rewards: how many rewards the server had loaded: a fork knows no later ones.
    """

    def __init__(self, server: ServerProcess, num_rewards: int) -> None:
        self._server = server
        self._socket, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.callback(self._socket.close)
            self.pid = server.fork(theirs)
            undo.pop_all()
        self._received = b""
        self._num_calls = 0
        self._growth_bytes = 0
        self.num_rewards = num_rewards

    @property
    def is_broken(self) -> bool:
        """Whether it ended, or spoke unasked."""
        return bool(self._received or wait([self._socket], 0))

    @property
    def is_worn(self) -> bool:
        """Whether another should take its place: it judged its share, it grew, or it is broken."""
        return self.is_broken or self._num_calls >= MAX_CALLS or self._growth_bytes > MAX_GROWTH_BYTES

    def send(self, calls: Sequence[Call], seconds: float) -> None:
        """Hand over calls, to be judged in order.

        Raises:
            OSError: it is gone, or does not read.
        """
        self._socket.settimeout(seconds)
        self._socket.sendall(pickle.dumps(list(calls)))

    def receive(self, seconds: float) -> RewardResult:
        """Its next result.

        Raises:
            TimeoutError: not within `seconds`.
            EOFError: it is gone.
            ValueError: it wrote something else.
        """
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            if len(self._received) > MAX_LINE_BYTES:
                raise ValueError(f"a result must fit {MAX_LINE_BYTES} bytes, got {self._received[:80]!r}...")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                found = self._socket.recv(MAX_LINE_BYTES)
            except ConnectionError:
                found = b""
            if not found:
                raise EOFError
            self._received += found
        line, _, self._received = self._received.partition(b"\n")
        result, self._growth_bytes = parse_line(line, self._num_calls)
        self._num_calls += 1
        return result

    def close(self) -> None:
        """Ask it nothing any more: an idle worker ends by itself."""
        self._socket.close()

    def end(self) -> str:
        """Kill it and whatever it started; how it ended."""
        self.close()
        return _in_words(os.waitstatus_to_exitcode(self._server.end(self.pid)))


def _in_words(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    return next((each.name for each in signal.Signals if each == -exit_code), f"signal {-exit_code}")
