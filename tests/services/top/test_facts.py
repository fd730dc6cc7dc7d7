"""What the screen is told, and what it makes of it."""

from typing import Any

import pytest
from report_builders import Clock

from services.top.facts import MAX_EVENTS, MAX_POINTS, TopFacts
from shaping.support import SegmentClass


def make_facts(clock: Clock | None = None) -> TopFacts:
    return TopFacts(run_id="run_1", url="http://a", clock=clock or Clock(0.0))


def make_status(step: int = 1, **members: Any) -> dict[str, Any]:
    return {"state": "running", "step": step, "total_steps": 10, "metrics": {}, **members}


def test_curve_is_the_past_and_what_comes_each_step_once() -> None:
    facts = make_facts()
    # Step 2 has no reward: it is no point, and not a zero.
    facts.take_series({"step": [1, 2, 3], "series": {"reward_total_value": [0.1, None, 0.3], "else": [1, 2, 3]}})
    for step, reward in ((3, 0.3), (3, 0.3), (4, 0.4)):
        facts.take_status(make_status(step, metrics={"reward_total_value": reward}))
    assert facts.curve("reward_total_value") == [0.1, 0.3, 0.4]
    assert facts.curve("rollout_entropy_nats") == []
    for step in range(5, 2 * MAX_POINTS):
        facts.take_status(make_status(step, metrics={"reward_total_value": float(step)}))
    assert len(facts.curve("reward_total_value")) == MAX_POINTS


def test_evaluation_counts_at_its_own_step() -> None:
    facts = make_facts()
    held_out = {"step": 0, "accuracy_ratio": 0.25}
    facts.take_status(make_status(3, evaluation=held_out))
    facts.take_status(make_status(4, evaluation=held_out))
    facts.take_status(make_status(5, evaluation={"step": 5, "accuracy_ratio": 0.5}))
    assert facts.curve("evaluation_accuracy") == [0.25, 0.5]


def test_time_left_is_counted_down_between_answers() -> None:
    clock = Clock(0.0)
    facts = make_facts(clock)
    assert facts.seconds_left is None
    facts.take_status(make_status(eta_seconds=10.0))
    clock.now = 4.0
    assert facts.seconds_left == 6.0
    clock.now = 40.0
    assert facts.seconds_left == 0.0


def test_silence_is_counted_from_the_last_answer_and_ends_with_the_next() -> None:
    clock = Clock(0.0)
    facts = make_facts(clock)
    facts.take_status(make_status())
    clock.now = 7.0
    assert facts.away_seconds is None
    facts.take_silence()
    clock.now = 9.0
    assert facts.away_seconds == 9.0
    facts.take_status(make_status())
    assert facts.away_seconds is None


def test_segments_are_shares_or_nothing() -> None:
    facts = make_facts()
    assert facts.shares is None
    facts.take_status(make_status(metrics={"segments_shared_tokens": 0.0}))
    assert facts.shares is None
    facts.take_status(make_status(metrics={"segments_shared_tokens": 3.0, "segments_unique_tokens": 1.0}))
    assert facts.shares == {
        SegmentClass.SHARED: 0.75,
        SegmentClass.CORRECT_ONLY: 0.0,
        SegmentClass.INCORRECT_ONLY: 0.0,
        SegmentClass.UNIQUE: 0.25,
    }


def test_events_are_the_newest_without_the_steps() -> None:
    facts = make_facts()
    for number in range(MAX_EVENTS + 5):
        facts.take_event({"id": number, "type": "paused"})
        facts.take_event({"id": number, "type": "step_completed"})
    assert [each["id"] for each in facts.events] == list(range(5, MAX_EVENTS + 5))


@pytest.mark.parametrize(("state", "is_over"), [("running", False), ("paused", False), ("failed", True)])
def test_end_is_told_by_the_state(state: str, is_over: bool) -> None:
    facts = make_facts()
    facts.take_status(make_status(state=state))
    assert facts.is_over is is_over
