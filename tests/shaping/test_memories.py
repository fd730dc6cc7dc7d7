"""What is particular to last_values; the laws that all memories share are in tests/contracts."""

import pytest

from shaping.errors import RecordError
from shaping.memories import last_values


def test_the_latest_visit_wins_in_whatever_order_it_is_written() -> None:
    memory = last_values.build(last_values.Config())
    memory.write("p", 2, {"accuracy": 0.5})
    memory.write("p", 1, {"accuracy": 0.1})
    assert memory.read("p") == {"accuracy": 0.5}
    memory.write("p", 2, {"accuracy": 0.6})
    assert memory.read("p") == {"accuracy": 0.6}


def test_a_prompt_never_visited_has_no_values() -> None:
    assert last_values.build(last_values.Config()).read("p") == {}


def test_a_broken_state_is_refused_and_changes_nothing() -> None:
    memory = last_values.build(last_values.Config())
    memory.write("p", 1, {"accuracy": 0.5})
    with pytest.raises(RecordError, match=r"must hold `visit` and `values`.*\(prompt q\)"):
        memory.restore({"q": {"visit": 1}})
    assert memory.read("p") == {"accuracy": 0.5}
