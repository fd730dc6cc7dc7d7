"""The arithmetic of the loop benchmark; its runs are started by the benchmark alone, since they take minutes."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.loop import (
    NUM_WARM_UP_STEPS,
    STEPS_PER_TURN,
    is_step_record,
    phases_by_turn,
    ratio,
    to_rows,
)


def step_line(number: int, train: float) -> str:
    phases = {"wait_batch": 1.0, "train": train, "weight_sync": 0.1, "evaluation": 0.0}
    return json.dumps({"kind": "step", "step": number, "phase_seconds": phases})


def test_a_turns_phases_leave_out_the_step_that_a_stop_fell_into(tmp_path: Path) -> None:
    """Train seconds are the step's number, so a turn's median names the steps it came from."""
    first = NUM_WARM_UP_STEPS + 1
    lines = [step_line(number, train=number) for number in range(1, first + 2 * STEPS_PER_TURN)]
    lines.insert(2, json.dumps({"kind": "event"}))
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + "\n")
    turns = phases_by_turn(path, num_turns=2)
    # The first turn has steps 4 to 7, of which 5, 6 and 7 count: median 6. The second has 8 to 11: median 10.
    assert [turn["train"] for turn in turns] == [6.0, 10.0]
    assert [turn["wait_batch"] + turn["weight_sync"] for turn in turns] == pytest.approx([1.1, 1.1])


def test_other_records_are_no_steps() -> None:
    assert is_step_record(step_line(1, 1.0))
    assert not is_step_record(json.dumps({"kind": "evaluation"}))


def test_a_ratio_is_the_median_over_pairs() -> None:
    # 4/1, 2/2, 9/3: median 3; the ratio of the medians 4/2 is 2.
    assert ratio([4.0, 2.0, 9.0], [1.0, 2.0, 3.0]) == 3.0


def test_a_row_per_turn_has_the_seconds_of_every_run() -> None:
    assert to_rows({"a": [1.0, 2.0], "b": [3.0, 4.0]}) == [
        {"turn": 0, "a": 1.0, "b": 3.0},
        {"turn": 1, "a": 2.0, "b": 4.0},
    ]
