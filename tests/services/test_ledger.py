"""Lines of the ledger: with the rounds of a group that had several, and as they were before there were any."""

import json
from pathlib import Path

import numpy as np
import pytest
from report_builders import make_description

from rollout.plans.base import FinishedRound, Round
from services.ledger import LedgerLine, LedgerRound, rounds_of
from services.run_dir import LEDGER_FILE, RunFiles
from services.run_view.confined import ConfinedFolder
from services.run_view.ledger_file import LedgerFile
from services.skipped_step import SkippedStep, read_skipped

ROUNDS = (
    LedgerRound(rate=0.8, hint_tokens=31, scored=8, correct=8),
    LedgerRound(rate=0.4, hint_tokens=12, scored=7, correct=2),
)


def line(ordinal: int, *, rounds: tuple[LedgerRound, ...] = (), outcome: str = "trained", step: int = 1) -> LedgerLine:
    group_id = f"g{ordinal:08d}"
    return LedgerLine(
        ordinal=ordinal, group_id=group_id, prompt_id="p", visit=1, rounds=rounds, outcome=outcome, step=step
    )


def test_a_line_with_rounds_and_one_without_come_back_as_they_were() -> None:
    for each in (line(1), line(2, rounds=ROUNDS)):
        assert LedgerLine.from_plain(json.loads(json.dumps(each.as_plain()))) == each
    assert line(2, rounds=ROUNDS).as_plain()["rounds"] == (
        {"rate": 0.8, "hint_tokens": 31, "scored": 8, "correct": 8},
        {"rate": 0.4, "hint_tokens": 12, "scored": 7, "correct": 2},
    )


def test_a_line_of_one_round_is_what_it_was_before_there_were_rounds() -> None:
    before = {"ordinal": 1, "group_id": "g00000001", "prompt_id": "p", "visit": 1, "outcome": "trained", "step": 1}
    assert line(1).as_plain() == before
    assert list(line(1).as_plain()) == list(before)
    assert LedgerLine.from_plain(before) == line(1)


@pytest.mark.parametrize(
    "plain", [{}, {**line(1).as_plain(), "more": 1}, {**line(1).as_plain(), "rounds": [{"rate": 1}]}]
)
def test_what_is_no_line_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        LedgerLine.from_plain(plain)


def test_rounds_are_told_with_their_rate_hint_and_verdicts() -> None:
    finished = [
        FinishedRound(
            round=Round(num_rollouts=8, hint_rate=each.rate),
            rewards=np.zeros(each.scored, np.float32),
            num_correct=each.correct,
            num_hint_tokens=each.hint_tokens,
        )
        for each in ROUNDS
    ]
    assert rounds_of(finished) == ROUNDS


def test_pages_of_a_ledger_hold_lines_with_rounds_beside_lines_without(tmp_path: Path) -> None:
    lines = [
        line(
            ordinal, rounds=ROUNDS if ordinal % 2 else (), outcome="skipped" if ordinal % 3 else "trained", step=ordinal
        )
        for ordinal in range(1, 7)
    ]
    files = RunFiles(tmp_path, make_description(), api_address="")
    files.write_ledger(lines)
    files.close()
    assert sum(b'"rounds"' in each for each in (tmp_path / LEDGER_FILE).read_bytes().splitlines()) == 3
    ledger = LedgerFile(ConfinedFolder(tmp_path))
    ledger.catch_up()
    assert ledger.totals == {"skipped": 4, "trained": 2}
    page = ledger.page(step=None, outcomes=None, accepts=lambda _: True, size=10, before=None)
    assert list(page.lines) == lines[::-1]
    page = ledger.page(step=3, outcomes={"trained"}, accepts=lambda _: True, size=10, before=None)
    assert page.lines == (lines[2],)


def test_a_skipped_step_keeps_the_rounds_of_its_groups(tmp_path: Path) -> None:
    skipped = SkippedStep(step=3, cause="the loss is nan", lines=(line(1), line(2, rounds=ROUNDS)))
    skipped.write(tmp_path)
    assert read_skipped(tmp_path) == skipped
