"""The screen: fits any terminal, says what is, and lets nothing out of it."""

import io
import re
from typing import Any

import pytest
from report_builders import Clock
from rich.cells import cell_len
from rich.console import Console

from services.top.draw import Screen
from services.top.facts import TopFacts

HOSTILE = "\x1b[2J\x07\u202e evil \x9b31m\r\n"


def make_facts(
    *, status: dict[str, Any] | None = None, num_workers: int = 2, num_events: int = 3, text: str = "words"
) -> TopFacts:
    facts = TopFacts(run_id="run_1", url="http://127.0.0.1:8470", clock=Clock(0.0))
    facts.take_series({"step": [1, 2, 3], "series": {"reward_total_value": [0.25, 0.5, 0.75]}})
    said = {
        "name": text,
        "state": "running",
        "step": 3,
        "total_steps": 12,
        "eta_seconds": 95.0,
        "step_seconds": 2.5,
        "phase_seconds": {"train": 1.5, "wait_batch": 0.75, "other": 0.25},
        "tokens_per_second": 1234.0,
        "policy_version": 3,
        "groups": {"trained": 4, "dropped_uniform": 1},
        "queues": {"in_flight": {"depth": 3, "capacity": 8}, "shaping": {"depth": 2, "capacity": 0}},
        "metrics": {"segments_shared_tokens": 3.0, "segments_unique_tokens": 1.0},
        "allowed_actions": ["pause"],
    }
    facts.take_status({**said, **(status or {})})
    facts.workers = tuple(
        {"id": f"rollout-{n}", "role": "rollout", "state": "ready", "policy_version": 3, "restarts": n}
        for n in range(num_workers)
    )
    for number in range(num_events):
        facts.take_event({"type": "worker_lost", "message": text, "at": f"2026-01-01T00:00:{number:02d}Z"})
    return facts


def drawn(facts: TopFacts, width: int = 100, height: int = 30, *, ascii_only: bool = False) -> str:
    encoding = "ascii" if ascii_only else "utf-8"
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(Screen(facts, has_keys=True))
    file.flush()
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 140, 250])
@pytest.mark.parametrize("height", [8, 16, 24, 30, 40, 80])
@pytest.mark.parametrize("num_workers", [0, 2, 1000])
def test_screen_fills_its_terminal_and_no_more(width: int, height: int, num_workers: int) -> None:
    pause = {"mode": "drain", "phase": "draining", "inflight_groups": 3, "requested_by": "a" * 300, "reason": "b" * 300}
    facts = make_facts(status={"pause": pause, "state": "pausing"}, num_workers=num_workers, num_events=50)
    facts.take_silence()
    lines = drawn(facts, width, height).splitlines()
    assert len(lines) == height
    assert {cell_len(line) for line in lines} == {width}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (160, 50)])
def test_all_parts_are_there_at_every_usual_size(width: int, height: int) -> None:
    text = drawn(make_facts(), width, height)
    for part in (
        *("step 3/12", "1 min 35 s left", "2.50 s a step", "1,234 tokens/s", "policy 3"),
        *("reward", "0.750", "4 trained", "1 dropped uniform", "shared 75%", "unique 25%"),
        *("train 60%", "wait batch 30%", "other 10%", "in flight", "3/8", "rollout-0", "v3", "1 restart"),
        *("events", "worker_lost", "p pause", "q quit", "http://127.0.0.1:8470", "running", "run_1"),
    ):
        assert part in text, part


def test_what_is_not_known_is_a_dash() -> None:
    facts = TopFacts(run_id="run_1", url="http://a", clock=Clock(0.0))
    facts.take_status({"state": "pending"})
    text = drawn(facts)
    assert "step -/-" in text and "- s a step" in text and "policy -" in text and re.search("held-out +- ", text)
    assert "none yet" in text and "no step yet" in text
    assert not re.search(r"[0-9]", text.replace("run_1", ""))


def test_nothing_that_a_run_says_steers_the_terminal() -> None:
    failure = {"role": HOSTILE, "cause": HOSTILE}
    pause = {"mode": HOSTILE, "phase": HOSTILE, "reason": HOSTILE, "requested_by": HOSTILE, "checkpoint": HOSTILE}
    odd = {
        "failure": failure,
        "pause": pause,
        "phase_seconds": {HOSTILE: 1.0},
        "queues": {HOSTILE: {"depth": 1, "capacity": 2}},
        "groups": {HOSTILE: 2},
        "checkpoint": {"latest": HOSTILE},
    }
    for state in ("running", "paused", "pausing", "failed"):
        facts = make_facts(status={**odd, "state": state}, text=HOSTILE)
        facts.workers = ({"id": HOSTILE, "role": HOSTILE, "state": HOSTILE},)
        facts.said = HOSTILE
        text = drawn(facts, 200, 50)
        assert "evil" in text
        assert not any(char in text for char in "\x07\u202e\x9b\r")
        assert "[2J" not in text.replace("\\x1b[2J", "")


def test_terminal_without_unicode_gets_ascii() -> None:
    text = drawn(make_facts(), ascii_only=True)
    assert text.isascii() and "#" in text


def test_bad_news_comes_first() -> None:
    workers = [{"id": f"rollout-{n}", "role": "rollout", "state": "ready"} for n in range(50)]
    facts = make_facts()
    facts.workers = (*workers, {"id": "rollout-77", "role": "rollout", "state": "failed"})
    text = drawn(facts, 80, 24)
    assert "rollout-77" in text and "more, " in text
    failed = drawn(make_facts(status={"state": "failed", "failure": {"role": "learner", "cause": "out of memory"}}))
    assert "failed  learner: out of memory" in failed


def test_pause_shows_how_far_it_is_and_then_what_it_left() -> None:
    facts = make_facts(status={"state": "pausing", "pause": {"mode": "drain", "phase": "saving", "progress": 0.5}})
    assert "saving" in drawn(facts) and "50%" in drawn(facts)
    pause = {"mode": "drain", "phase": "done", "checkpoint": "step-000003", "released": "none", "requested_by": "ana"}
    text = drawn(make_facts(status={"state": "paused", "pause": pause}))
    assert "paused (drain) by ana; step-000003, released none" in text


def test_question_takes_the_place_of_the_keys() -> None:
    facts = make_facts()
    facts.question = "pause this run? y/n"
    text = drawn(facts)
    assert "pause this run? y/n" in text and "q quit" not in text
