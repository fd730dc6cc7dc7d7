"""Runs that work in turns: a child process that writes a line whenever it is let."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.live_runs import LiveRun, start_run, take_turns

WRITER = """
import sys, threading
with open(sys.argv[1], "a", buffering=1) as file:
    for index in range(int(sys.argv[2])):
        threading.Event().wait(0.002)
        file.write("step\\nother\\n")
print("no more")
sys.exit(3)
"""


def start_writer(folder: Path, num_steps: int = 10**6) -> LiveRun:
    folder.mkdir()
    return start_run(
        [sys.executable, "-c", WRITER, str(folder / "lines"), str(num_steps)],
        cwd=folder,
        environment={},
        lines=folder / "lines",
        is_step=lambda line: line == "step",
        output=folder / "output",
    )


def stops(run: LiveRun) -> bool:
    """Whether it comes to a stop; the signal is on its way."""
    process = psutil.Process(run.process.pid)
    for _ in range(500):
        if process.status() == psutil.STATUS_STOPPED:
            return True
        threading.Event().wait(0.01)
    return False


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LiveRun]:
    live = start_writer(tmp_path / "run")
    yield live
    live.close()


def test_a_turn_ends_after_its_steps_and_the_run_stands_still(run: LiveRun) -> None:
    assert run.turn(3) > 0
    assert run.num_steps >= 3
    assert stops(run)
    before = run.num_steps
    run.turn(2)
    assert run.num_steps >= before + 2


def test_lines_of_other_things_are_no_steps(run: LiveRun) -> None:
    run.turn(4)
    written = run.lines.read_text().splitlines()
    assert written.count("step") >= run.num_steps >= 4
    assert "other" in written


def test_a_run_that_ends_early_says_what_it_printed(tmp_path: Path) -> None:
    live = start_writer(tmp_path / "short", num_steps=2)
    with pytest.raises(RuntimeError, match=r"after 2 steps.*no more"):
        live.turn(5)
    live.close()


def test_runs_take_turns_and_are_gone_afterwards(tmp_path: Path) -> None:
    started: list[LiveRun] = []

    def make(name: str) -> Callable[[], LiveRun]:
        def start() -> LiveRun:
            started.append(start_writer(tmp_path / name))
            return started[-1]

        return start

    seconds = take_turns({"a": make("a"), "b": make("b")}, num_turns=3, steps_per_turn=2, num_warm_up_steps=1)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert all(each > 0 for turns in seconds.values() for each in turns)
    assert [live.process.poll() is not None for live in started] == [True, True]
