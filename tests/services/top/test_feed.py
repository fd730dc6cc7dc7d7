"""The screen's source: a real control plane that goes away and comes back."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from report_builders import make_step
from served_plane import ObedientRun, ServedPlane, serve_plane, serve_run

from services.client.endpoint import Endpoint
from services.client.errors import Refused
from services.client.http import ControlClient
from services.top.facts import TopFacts
from services.top.feed import Feed

WAIT_SECONDS = 30.0


class Watched:
    """Facts that a feed keeps fresh, and a way to wait for them."""

    def __init__(self, served: ServedPlane, run_id: str) -> None:
        self.client = ControlClient(Endpoint(url=served.url, named_by="a test"))
        self.facts = TopFacts(run_id=run_id, url=served.url, clock=time.monotonic)
        self.lock = threading.Lock()
        self.feed = Feed(self.client, self.facts, self.lock, poll_seconds=0.05)

    def wait_for(self, is_so: Callable[[TopFacts], bool]) -> None:
        deadline = threading.Event()
        for _ in range(int(WAIT_SECONDS / 0.02)):
            with self.lock:
                if is_so(self.facts):
                    return
            deadline.wait(0.02)
        raise AssertionError(f"not so after {WAIT_SECONDS} s: {self.facts.status} {list(self.facts.events)}")


def test_screen_follows_a_run_through_a_restart_of_its_control_plane(tmp_path: Path) -> None:
    with serve_plane(tmp_path) as served, serve_run(served, tmp_path / "run") as run:
        watched = Watched(served, run.run_id)
        with watched.client:
            watched.feed.load()
            # Three steps and two evaluations of the run's directory, though the status is that of a step.
            assert watched.facts.curve("reward_total_value") == [0.1, 0.2, 0.3]
            assert watched.facts.curve("evaluation_accuracy") == [0.25, 0.75]
            assert [each["id"] for each in watched.facts.workers] == ["learner-0", "rollout-0"]
            with watched.feed:
                watched.wait_for(lambda facts: "started" in [each["type"] for each in facts.events])
                run.report(make_step(4, {"reward_total_value": 0.9}))
                watched.wait_for(lambda facts: facts.status["step"] == 4)
                assert watched.facts.curve("reward_total_value") == [0.1, 0.2, 0.3, 0.9]
                served.stop()
                watched.wait_for(lambda facts: facts.away_seconds is not None)
                served.start_again()
                watched.wait_for(lambda facts: facts.away_seconds is None)
                _check_acts(watched, run)


def _check_acts(watched: Watched, run: ObedientRun) -> None:
    """The keys of the screen reach the run, and a refusal is said."""
    run.go_on()
    watched.feed.act("pause")
    watched.wait_for(lambda facts: facts.state == "paused" and facts.said.startswith("pause: "))
    watched.wait_for(lambda facts: "paused" in [each["type"] for each in facts.events])
    # Each event once, though the stream was opened twice.
    numbers = [each["id"] for each in watched.facts.events]
    assert numbers == sorted(set(numbers))
    watched.feed.act("nonsense")
    watched.wait_for(lambda facts: facts.said.startswith("nonsense: "))


def test_run_that_does_not_exist_is_said_at_once(tmp_path: Path) -> None:
    with serve_plane(tmp_path) as served:
        watched = Watched(served, "run_404")
        with watched.client, pytest.raises(Refused):
            watched.feed.load()
