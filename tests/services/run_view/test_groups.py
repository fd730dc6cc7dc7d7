"""Pages of groups against a plain reading of the whole ledger, and what is stored of them."""

import json
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_builders import make_event
from run_view_builders import (
    HOSTILE,
    append_groups,
    append_reports,
    group_bytes,
    make_group_line,
    make_ledger_line,
    make_run_dir,
    random_ledger,
    write_ledger,
)

from services.ledger import LedgerLine
from services.run_dir import GROUPS_FILE, LEDGER_FILE, reopen_run_dir
from services.run_view.stored_groups import glance
from services.run_view.view import OUTCOMES, ListedGroup, RunView
from shaping.errors import UserError


def all_pages(view: RunView, *, page_size: int = 7, **asked: object) -> list[ListedGroup]:
    items: list[ListedGroup] = []
    token: str | None = None
    while True:
        page = view.groups(page_size=page_size, page_token=token, **asked)  # type: ignore[arg-type]
        assert len(page.items) <= page_size
        items += page.items
        token = page.next_page_token
        if token is None:
            return items


@pytest.mark.parametrize("step", [None, 1, 2, 17, 99])
@pytest.mark.parametrize("outcome", [None, *OUTCOMES])
def test_pages_hold_what_a_plain_reading_finds_newest_first(
    tmp_path: Path, step: int | None, outcome: str | None
) -> None:
    # 2,000 lines of some 120 bytes: four blocks.
    lines = random_ledger(2000, seed=1)
    write_ledger(tmp_path, lines)
    expected = [
        each.group_id for each in reversed(lines) if step in (None, each.step) and outcome in (None, each.outcome)
    ]
    view = RunView(tmp_path)
    assert [each.group_id for each in all_pages(view, step=step, outcome=outcome, page_size=37)] == expected
    assert view.outcomes() == {name: n for name in OUTCOMES if (n := sum(each.outcome == name for each in lines))}


def test_a_ledger_that_is_read_as_it_grows_is_paged_like_one_that_was_read_at_once(tmp_path: Path) -> None:
    lines = random_ledger(900, seed=4)
    view = RunView(tmp_path)
    for start in range(0, len(lines), 4):
        with (tmp_path / LEDGER_FILE).open("a") as file:
            file.writelines(json.dumps(asdict(each)) + "\n" for each in lines[start : start + 4])
        assert sum(view.outcomes().values()) == start + 4
    for step in range(1, 22):
        for outcome in OUTCOMES:
            expected = [each.group_id for each in reversed(lines) if (each.step, each.outcome) == (step, outcome)]
            assert [each.group_id for each in all_pages(view, step=step, outcome=outcome)] == expected


def test_groups_that_end_meanwhile_do_not_shift_the_pages(tmp_path: Path) -> None:
    lines = random_ledger(300, seed=2)
    write_ledger(tmp_path, lines[:200])
    view = RunView(tmp_path)
    first = view.groups(page_size=50)
    with (tmp_path / LEDGER_FILE).open("a") as file:
        file.writelines(json.dumps(asdict(each)) + "\n" for each in lines[200:])
        file.write('{"half')
    second = view.groups(page_size=150, page_token=first.next_page_token)
    ids = [each.group_id for each in (*first.items, *second.items)]
    assert ids == [each.group_id for each in reversed(lines[:200])]
    assert view.groups(page_size=1).items[0].group_id == lines[299].group_id


def test_what_was_written_down_is_joined_and_the_rest_is_null(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, num_steps=1, groups_per_step=4, stored_per_step=3))
    by_id = {each.group_id: each for each in view.groups().items}
    assert [by_id[f"g{index:08d}"].verdicts for index in range(4)] == ["all_incorrect", "mixed", "mixed", None]
    # Four responses of four tokens, two of them correct.
    assert (by_id["g00000002"].num_correct, by_id["g00000002"].num_rollouts, by_id["g00000002"].num_tokens) == (
        2,
        4,
        16,
    )
    assert by_id["g00000003"].num_correct is by_id["g00000003"].num_tokens is None
    assert [each.is_stored for each in by_id.values()] == [False, True, True, True]


def test_groups_by_how_many_are_right(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, num_steps=5, groups_per_step=6, stored_per_step=5))
    ids = {
        outcome: [each.group_id for each in all_pages(view, outcome=outcome)]
        for outcome in ("all_correct", "all_incorrect")
    }
    # Group i of a step has i of 4 rollouts right.
    assert ids == {
        "all_correct": [f"g{6 * step + 4:08d}" for step in (4, 3, 2, 1, 0)],
        "all_incorrect": [f"g{6 * step:08d}" for step in (4, 3, 2, 1, 0)],
    }
    assert len(all_pages(view, outcome="mixed")) == 15


def test_a_group_that_was_made_twice_is_the_later_one(tmp_path: Path) -> None:
    make_run_dir(tmp_path, num_steps=1, stored_per_step=0)
    append_groups(tmp_path, [make_group_line(0, num_correct=1), make_group_line(1), make_group_line(0, num_correct=4)])
    view = RunView(tmp_path)
    assert view.groups(step=1).items[-1].verdicts == "all_correct"
    assert json.loads(view.group("g00000000"))["correct"] == 4
    assert view.distribution("reward", 1)["num_groups"] == 2


def test_a_run_that_went_back_shows_its_new_course_alone(tmp_path: Path) -> None:
    make_run_dir(tmp_path, num_steps=2, groups_per_step=2, stored_per_step=1)
    lengths = {name: (tmp_path / name).stat().st_size for name in (LEDGER_FILE, GROUPS_FILE, "metrics.jsonl")}
    with (tmp_path / LEDGER_FILE).open("a") as file:
        file.write(json.dumps(asdict(make_ledger_line(4, step=3))) + "\n")
    append_groups(tmp_path, [make_group_line(4, step=3, num_correct=1)])
    view = RunView(tmp_path)
    assert view.groups().items[0].verdicts == "mixed"
    token = view.groups(page_size=1).next_page_token
    reopen_run_dir(tmp_path, logs=lengths)
    append_reports(tmp_path, [make_event("starting")])
    assert view.groups().items[0].group_id == "g00000003"
    with pytest.raises(UserError, match="page_token is of a ledger that was cut back"):
        view.groups(page_token=str(int(token or 0) + 1))
    # The same group id, the same place in both files, other content.
    with (tmp_path / LEDGER_FILE).open("a") as file:
        file.write(json.dumps(asdict(make_ledger_line(4, step=3))) + "\n")
    append_groups(tmp_path, [make_group_line(4, step=3, num_correct=3)])
    assert view.groups().items[0].num_correct == 3
    assert json.loads(view.group("g00000004"))["correct"] == 3


def test_a_rewritten_middle_behind_an_equal_end_is_seen_once_a_process_has_begun(tmp_path: Path) -> None:
    ends = [make_ledger_line(ordinal, step=9) for ordinal in range(10, 30)]
    write_ledger(tmp_path, [make_ledger_line(1, outcome="trained"), *ends])
    view = RunView(tmp_path)
    append_groups(tmp_path, [make_group_line(1, step=1), make_group_line(2, step=9)])
    assert view.outcomes() == {"trained": 21}
    with (tmp_path / GROUPS_FILE).open("r+b") as file:
        file.write(group_bytes(make_group_line(1, step=2)))
    write_ledger_in_place(tmp_path, [make_ledger_line(1, outcome="skipped"), *ends])
    append_reports(tmp_path, [make_event("starting")])
    assert view.outcomes() == {"trained": 20, "skipped": 1}
    assert view.distribution("reward", 2)["num_groups"] == 1


def write_ledger_in_place(run_dir: Path, lines: list[LedgerLine]) -> None:
    with (run_dir / LEDGER_FILE).open("r+") as file:
        file.writelines(json.dumps(asdict(each)) + "\n" for each in lines)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"outcome": "nonsense"}, "outcome must be one of trained, skipped"),
        ({"page_size": 0}, "page_size must lie in 1 to 500, got 0"),
        ({"page_size": 501}, "page_size must lie in 1 to 500, got 501"),
        ({"page_token": "x"}, "page_token must be one that a page gave"),
        ({"page_token": "-1"}, "page_token must be one that a page gave"),
        ({"page_token": "3"}, "page_token is of a ledger that was cut back"),
        ({"page_token": "999999"}, "page_token is of a ledger that was cut back"),
    ],
)
def test_what_cannot_be_answered_is_refused(tmp_path: Path, asked: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        RunView(make_run_dir(tmp_path)).groups(**asked)  # type: ignore[arg-type]


def test_a_run_without_groups_has_an_empty_page(tmp_path: Path) -> None:
    view = RunView(tmp_path)
    assert (view.groups().items, view.groups().next_page_token, view.outcomes()) == ((), None, {})


TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))


@given(
    st.lists(st.lists(TEXTS, max_size=5), min_size=1, max_size=4),
    TEXTS,
    TEXTS,
    st.integers(0, 4),
    st.integers(0, 2**40),
)
def test_a_glance_at_our_own_line_says_what_parsing_says(
    rows: list[list[str]], prompt: str, prompt_id: str, num_correct: int, ordinal: int
) -> None:
    line = make_group_line(ordinal, step=7, size=len(rows), num_correct=num_correct, prompt=prompt, prompt_id=prompt_id)
    for response, tokens in zip(line["responses"], rows, strict=True):
        response.update(tokens=tokens, token_ids=list(range(len(tokens))), hint=prompt)
    raw = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
    found = glance(raw)
    assert (found.group_id, found.step) == (f"g{ordinal:08d}", 7)
    assert (found.num_correct, found.num_rollouts) == (min(num_correct, len(rows)), len(rows))
    assert found.num_tokens == sum(map(len, rows))


def test_a_glance_at_a_line_of_another_writer_parses_it() -> None:
    line = make_group_line(3, step=2, size=3, num_correct=1) | {"extra": {"responses": [{"correct": True}]}}
    spelled = json.dumps(dict(reversed(line.items())), indent=None).encode()
    assert glance(spelled) == glance(group_bytes(make_group_line(3, step=2, size=3, num_correct=1)))


def test_junk_among_stored_groups_is_passed_over(tmp_path: Path) -> None:
    make_run_dir(tmp_path, num_steps=1, stored_per_step=0)
    append_groups(tmp_path, [make_group_line(0)])
    with (tmp_path / GROUPS_FILE).open("ab") as file:
        file.write(b'\xff\n{}\n[]\n{"version":1,"prompt_id":"\n{"responses":[]}\n')
    append_groups(tmp_path, [make_group_line(1)])
    with (tmp_path / GROUPS_FILE).open("ab") as file:
        file.write(group_bytes(make_group_line(2))[:-20])
    assert [each.is_stored for each in RunView(tmp_path).groups().items] == [False, False, True, True]


def test_the_index_of_a_long_ledger_and_of_many_groups_stays_small(tmp_path: Path) -> None:
    write_ledger(tmp_path, (make_ledger_line(ordinal, step=1 + ordinal // 64) for ordinal in range(200_000)))
    with (tmp_path / GROUPS_FILE).open("ab") as file:
        for ordinal in range(198_000, 200_000):
            file.write(group_bytes(make_group_line(ordinal, tokens=["token"] * 100)))
    num_bytes = sum((tmp_path / name).stat().st_size for name in (LEDGER_FILE, GROUPS_FILE))
    assert num_bytes > 40e6
    tracemalloc.start()
    view = RunView(tmp_path)
    first = view.groups(outcome="mixed", page_size=10)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(first.items) == 10
    # 56 and 16 bytes for each of 2,000 groups, 32 for each of 400 blocks of the ledger.
    assert held < 0.5e6
    assert peak < 5e6
