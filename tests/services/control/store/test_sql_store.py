"""What any control store must do: the same laws for SQLite and Postgres."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from control_records import HOSTILE, make_answer, make_audit, make_config, make_event, make_operation, make_run

from services.control.life import OperationKind, RunLife
from services.control.records import Change, OperationState, StoreError
from services.control.store import SqlStore, StoreLimits, open_store
from services.reports import RunState
from shaping.errors import UserError


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url)
    yield opened
    opened.close()


def everything() -> Change:
    """One of each, of one run."""
    return Change(
        runs=(make_run(),),
        operations=(make_operation(),),
        events=(make_event(1), make_event(2, kind="operation_updated")),
        configs=(make_config(),),
        audit=(make_audit(),),
        answers=(make_answer(),),
        settings={"name": "value"},
    )


def content(store: SqlStore) -> dict[str, Any]:
    """All that can be read of run_a and of what belongs to none."""
    return {
        "runs": store.runs(),
        "operations": store.operations("run_a"),
        "open": store.open_operations("run_a"),
        "events": store.events("run_a", limit=100),
        "configs": store.configs("run_a"),
        "audit": store.audit(limit=100),
        "answer": store.answer("key", "ops"),
        "setting": store.setting("name"),
        "last": store.last_sequence(),
    }


def test_what_is_committed_is_read_back_by_the_next_process_member_by_member(store: SqlStore, url: str) -> None:
    change = everything()
    store.commit(change)
    before = content(store)
    store.close()
    again = open_store(url)
    assert content(again) == before
    assert before == {
        "runs": change.runs,
        "operations": change.operations,
        "open": change.operations,
        "events": change.events,
        "configs": change.configs,
        "audit": [(1, change.audit[0])],
        "answer": change.answers[0],
        "setting": "value",
        "last": 2,
    }
    again.close()


def test_an_empty_store_has_nothing(store: SqlStore) -> None:
    assert (store.runs(), store.last_sequence(), store.probe()) == ((), 0, "")
    assert store.operation("run_a", "op_1") is None
    assert store.answer("key", "ops") is None
    assert store.setting("name") is None


def test_a_record_that_exists_is_replaced_and_keeps_its_place(store: SqlStore) -> None:
    second = make_run("run_b", created_at=1.0)
    store.commit(Change(runs=(make_run(), second), operations=(make_operation("op_1"), make_operation("op_2"))))
    moved = make_run(life=RunLife(state=RunState.FAILED), failure=None, paused_until=None)
    ended = make_operation("op_1", state=OperationState.FAILED, deadline_at=None, ended_at=5.0, error="late")
    store.commit(
        Change(
            runs=(moved,), operations=(ended,), configs=(make_config(),), answers=(make_answer(),), settings={"a": "1"}
        )
    )
    took = make_config(at_step=5)
    given = make_answer(status=201, body={"id": "run_c"})
    store.commit(Change(configs=(took,), answers=(given,), settings={"a": "2"}))
    assert store.runs() == (moved, second)
    assert store.operations("run_a") == (ended, make_operation("op_2"))
    assert store.open_operations("run_a") == (make_operation("op_2"),)
    assert store.operation("run_a", "op_1") == ended
    assert (store.configs("run_a"), store.answer("key", "ops"), store.setting("a")) == ((took,), given, "2")


@pytest.mark.parametrize(
    "bad",
    [
        Change(runs=(make_run(step=9),), operations=(make_operation(run_id="run_unknown"),)),
        Change(runs=(make_run(step=9),), events=(make_event(3), make_event(3))),
        Change(runs=(make_run(step=9),), events=(make_event(2),)),
        Change(runs=(make_run(step=9),), events=(make_event(3), make_event(4, run_id="run_unknown"))),
        Change(runs=(make_run(step=9),), audit=(make_audit(2),), configs=(make_config(run_id="run_unknown"),)),
    ],
)
def test_a_change_that_cannot_be_written_whole_changes_nothing(store: SqlStore, bad: Change) -> None:
    store.commit(everything())
    before = content(store)
    with pytest.raises(StoreError):
        store.commit(bad)
    assert content(store) == before
    store.commit(Change(events=(make_event(3),)))
    assert store.last_sequence() == 3


def test_a_refused_number_of_an_event_names_both_numbers(store: SqlStore) -> None:
    store.commit(Change(runs=(make_run(),), events=(make_event(7),)))
    with pytest.raises(StoreError, match="found 6 after 7"):
        store.commit(Change(events=(make_event(6),)))


def test_events_are_read_by_run_from_behind_a_number_by_kind(store: SqlStore) -> None:
    kinds = {1: "a", 2: "b", 3: "a", 5: "c", 6: "a"}
    events = [
        make_event(number, kind=kind, run_id="run_b" if number == 3 else "run_a") for number, kind in kinds.items()
    ]
    store.commit(Change(runs=(make_run(), make_run("run_b")), events=tuple(events)))

    def numbers(**choice: Any) -> list[int]:
        return [event.sequence for event in store.events("run_a", **choice)]

    assert numbers(limit=10) == [1, 2, 5, 6]
    assert numbers(after=1, limit=2) == [2, 5]
    assert numbers(kinds=("a", "c"), limit=10) == [1, 5, 6]
    assert numbers(after=5, kinds=("a",), limit=10) == [6]
    assert [event.sequence for event in store.events("run_b", limit=10)] == [3]


def test_operations_are_read_page_by_page_of_one_run(store: SqlStore) -> None:
    of_a = [make_operation(f"op_{number}") for number in (3, 1, 2)]
    other = make_operation("op_1", run_id="run_b")
    store.commit(Change(runs=(make_run(), make_run("run_b")), operations=(of_a[0], other, *of_a[1:])))
    assert store.operations("run_a", limit=2) == (of_a[0], of_a[1])
    assert store.operations("run_a", after="op_1", limit=2) == (of_a[2],)
    assert store.operations("run_a", after="op_unknown") == ()
    assert store.operation("run_b", "op_1") == other
    assert store.operation("run_b", "op_2") is None


def test_the_audit_log_is_read_backwards_page_by_page(store: SqlStore) -> None:
    store.commit(Change(audit=tuple(make_audit(number) for number in range(1, 6))))
    newest = store.audit(limit=2)
    assert [(number, line.request_id) for number, line in newest] == [(5, "req_5"), (4, "req_4")]
    older = store.audit(before=newest[-1][0], limit=10)
    assert [line.request_id for _, line in older] == ["req_3", "req_2", "req_1"]


def test_a_deleted_run_takes_all_that_is_its_own_and_no_number_is_given_twice(store: SqlStore, url: str) -> None:
    store.commit(everything())
    kept = Change(runs=(make_run("run_b"),), operations=(make_operation(run_id="run_b"),), events=())
    store.commit(kept)
    store.delete_run("run_a")
    assert store.runs() == kept.runs
    assert (store.operations("run_a"), store.events("run_a", limit=9), store.configs("run_a")) == ((), (), ())
    assert store.operations("run_b") == kept.operations
    assert store.audit(limit=9) == [(1, make_audit())]
    store.close()
    again = open_store(url)
    assert again.last_sequence() == 2
    again.close()


def test_the_same_key_of_two_callers_is_two_answers(store: SqlStore) -> None:
    mine, yours = make_answer(status=201), make_answer(caller="other")
    store.commit(Change(answers=(mine, yours)))
    assert store.answer("key", "ops") == mine
    assert store.answer("key", "other") == yours


def test_prune_leaves_the_newest_of_each_run_and_answers_of_a_day(url: str) -> None:
    limited = open_store(url, limits=StoreLimits(events_of_a_run=2, audit_lines=3))
    events = [make_event(number, run_id="run_b" if number == 2 else "run_a") for number in range(1, 6)]
    day = 24 * 3600.0
    answers = (make_answer("old", created_at=9.0), make_answer("young", created_at=10.0))
    lines = tuple(make_audit(number) for number in range(1, 6))
    runs = (make_run(), make_run("run_b"))
    limited.commit(Change(runs=runs, events=tuple(events), audit=lines, answers=answers))
    limited.prune(now=10.0 + day)
    assert [event.sequence for event in limited.events("run_a", limit=9)] == [4, 5]
    assert [event.sequence for event in limited.events("run_b", limit=9)] == [2]
    assert [number for number, _ in limited.audit(limit=9)] == [5, 4, 3]
    assert limited.answer("old", "ops") is None
    assert limited.answer("young", "ops") == answers[1]
    limited.close()


def test_any_string_is_a_name(store: SqlStore) -> None:
    run, operation = make_run(HOSTILE), make_operation(HOSTILE, run_id=HOSTILE)
    event = make_event(1, run_id=HOSTILE, kind=HOSTILE)
    answer = make_answer(HOSTILE, caller=HOSTILE)
    store.commit(
        Change(runs=(run,), operations=(operation,), events=(event,), answers=(answer,), settings={HOSTILE: HOSTILE})
    )
    assert store.runs() == (run,)
    assert store.operation(HOSTILE, HOSTILE) == operation
    assert store.events(HOSTILE, kinds=(HOSTILE,), limit=1) == (event,)
    assert store.answer(HOSTILE, HOSTILE) == answer
    assert store.setting(HOSTILE) == HOSTILE
    # Told apart from what the escape of NUL looks like.
    assert store.operation(HOSTILE.replace("\x00", "\\x00"), HOSTILE) is None


def test_every_kind_of_operation_is_kept(store: SqlStore) -> None:
    operations = tuple(make_operation(f"op_{kind}", kind=kind) for kind in OperationKind)
    store.commit(Change(runs=(make_run(),), operations=operations))
    assert store.operations("run_a") == operations


def test_a_closed_store_says_so(store: SqlStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.commit(everything())
    assert "closed" in store.probe()


def test_one_control_plane_at_a_time_has_a_store(store: SqlStore, url: str) -> None:
    with pytest.raises(StoreError, match="one control plane at a time"):
        open_store(url)
    store.commit(everything())
    store.close()
    again = open_store(url)
    assert again.runs() == (make_run(),)
    again.close()


def test_numbers_keep_their_kind(store: SqlStore) -> None:
    whole = replace(make_run(), created_at=5, finished_at=6)
    store.commit(Change(runs=(whole,)))
    (found,) = store.runs()
    assert (type(found.created_at), type(found.step)) == (float, int)
    assert found.description.recipe == make_run().description.recipe


@pytest.mark.parametrize("name", ["mysql://host/db", "http://host", "redis://"])
def test_another_database_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(UserError, match=name.partition(":")[0]):
        open_store(name)
