"""Laws of the picture of hints: which prompts it shows, curves where their rounds are, nothing without rounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_builders import make_history, make_step

from services.commands.files import hints
from services.hint_figure import (
    CurveRules,
    PromptVisits,
    curve_rules,
    draw_hints,
    most_visited,
    read_ledger,
    write_hints,
)
from services.history import RunHistory
from services.ledger import LedgerLine, LedgerRound
from services.recipe import load_recipe
from services.report_lines import report_line
from services.run_dir import LEDGER_FILE, METRICS_FILE, RECIPE_FILE, RUN_ID_FILE
from shaping.components import ComponentSpec
from shaping.errors import UserError

QUICKSTART = Path(__file__).parents[2] / "deploy" / "recipes" / "quickstart.yaml"
SEELE = ComponentSpec(kind="seele")
POINTS = ((0.8, 4), (0.4, 1), (0.6, 2), (0.6, 2))


def line(ordinal: int, prompt: str, visit: int = 1, *, points: tuple[tuple[float, int], ...] = POINTS) -> LedgerLine:
    """A group of rounds of four rollouts, each with its rate and how many were correct."""
    return LedgerLine(
        ordinal=ordinal,
        group_id=f"g{ordinal}",
        prompt_id=prompt,
        visit=visit,
        rounds=tuple(LedgerRound(rate=rate, hint_tokens=3, scored=4, correct=correct) for rate, correct in points),
        outcome="trained",
        step=1,
    )


def hinted_history(num_steps: int = 3) -> RunHistory:
    history = make_history(0)
    for step in range(1, num_steps + 1):
        values = {f"hint_round_{number}_accuracy": number / 10 for number in (1, 2, 3, 4)}
        history.add(make_step(step, {**values, "hint_rate_mean": 0.5, "hint_fit_error": 0.01}))
    return history


def panels(history: RunHistory, prompts: list[PromptVisits], rules: CurveRules | None = None) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in draw_hints(history, prompts, rules or curve_rules(SEELE)).axes}


def write_ledger(folder: Path, *lines: LedgerLine) -> None:
    (folder / LEDGER_FILE).write_text("".join(f"{json.dumps(each.as_plain())}\n" for each in lines))


def test_prompts_come_by_visits_then_by_admission_with_their_first_and_last_group() -> None:
    lines = [line(0, "a"), line(1, "b"), line(2, "b", 2), line(3, "c"), line(5, "b", 3), line(4, "c", 2)]
    found = most_visited(lines)
    assert [(each.prompt_id, each.num_visits) for each in found] == [("b", 3), ("c", 2), ("a", 1)]
    assert [(each.first.ordinal, each.last.ordinal) for each in found] == [(1, 5), (3, 4), (0, 0)]


def test_groups_of_one_round_or_without_verdicts_have_no_curve() -> None:
    silent = LedgerLine(
        ordinal=1,
        group_id="g1",
        prompt_id="b",
        visit=1,
        rounds=(LedgerRound(rate=0.5, hint_tokens=3, scored=0, correct=0),) * 2,
        outcome="dropped_no_verdict",
        step=1,
    )
    assert most_visited([line(0, "a", points=POINTS[:1]), silent]) == []


def test_accuracy_of_every_round_that_was_measured_has_a_line() -> None:
    axes = panels(hinted_history(), [])["Accuracy by round"]
    assert [each.get_label() for each in axes.get_lines()] == ["round 1", "round 2", "round 3", "round 4"]
    assert list(axes.get_lines()[2].get_ydata()) == [0.3, 0.3, 0.3]


def test_curve_of_a_prompt_goes_where_its_rounds_are() -> None:
    (found,) = most_visited([line(0, "a"), line(1, "a", 2, points=((0.0, 4), (0.0, 4)))])
    axes = panels(hinted_history(), [found])["a"]
    first, last = (each for each in axes.get_lines() if str(each.get_label()).startswith("visit"))
    rates, accuracies = first.get_xdata(), first.get_ydata()
    # Half of the rollouts were correct at 0.6, three of four wrong at 0.4, all right at 0.8.
    at = dict(zip([round(float(rate), 2) for rate in rates], accuracies, strict=True))
    assert at[0.6] == pytest.approx(0.5, abs=0.1) and at[0.4] < 0.35 and at[0.8] > 0.8
    # On its second visit all were right without a hint.
    assert min(last.get_ydata()) > 0.9
    dots = axes.collections[0].get_offsets()
    assert [tuple(map(float, each)) for each in dots] == [(0.8, 1.0), (0.4, 0.25), (0.6, 0.5), (0.6, 0.5)]


def test_curves_and_the_line_of_the_target_follow_the_options_of_the_plan() -> None:
    (found,) = most_visited([line(0, "a", points=((0.8, 4), (0.4, 0)))])
    flat = ComponentSpec(kind="seele", options={"target": 0.7, "start": [1.0, -0.5, 0.05], "upper": [2.0, 1.0, 0.999]})
    axes = panels(hinted_history(), [found], curve_rules(flat))["a"]
    curve, target = axes.get_lines()
    assert set(target.get_ydata()) == {0.7}
    # A slope of at most 2 rises by no more than slope/4 a unit of rate; the default fit goes from 0 to 1 in 0.4.
    assert max(curve.get_ydata()) - min(curve.get_ydata()) <= 0.5
    assert len(panels(hinted_history(), [found], curve_rules(ComponentSpec(kind="single_round")))["a"].get_lines()) == 1


def test_run_without_rounds_has_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "hints.png"
    assert not write_hints(tmp_path, make_history(3), path, plan=SEELE)
    assert not path.exists()


def test_run_with_rounds_has_a_picture_of_its_ledger(tmp_path: Path) -> None:
    write_ledger(tmp_path, line(0, "a"))
    assert write_hints(tmp_path, hinted_history(), tmp_path / "hints.png", plan=SEELE)
    assert (tmp_path / "hints.png").read_bytes().startswith(b"\x89PNG")


def test_half_a_line_at_the_end_is_left_out_and_another_fault_is_named(tmp_path: Path) -> None:
    write_ledger(tmp_path, line(0, "a"), line(1, "b"))
    path = tmp_path / LEDGER_FILE
    path.write_text(path.read_text() + '{"ordinal": 2')
    assert [each.prompt_id for each in read_ledger(path)] == ["a", "b"]
    path.write_text("[]\n")
    with pytest.raises(UserError, match="a ledger must hold a group in each line"):
        list(read_ledger(path))
    with pytest.raises(UserError, match="a ledger must be readable"):
        list(read_ledger(tmp_path / "absent"))


def write_run(folder: Path, history: RunHistory) -> None:
    """What the command reads of a run's directory."""
    (folder / RECIPE_FILE).write_text(json.dumps(load_recipe(QUICKSTART).as_dict()))
    (folder / METRICS_FILE).write_text("".join(f"{report_line(each, at=0.0)}\n" for each in history.steps))
    (folder / RUN_ID_FILE).write_text("run-1\n")
    write_ledger(folder, line(0, "a"))


def test_command_draws_a_run_and_refuses_one_whose_groups_had_one_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, hinted_history())
    hints(tmp_path, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{tmp_path / 'out.png'}\n"
    with pytest.raises(UserError, match="--out must be writable"):
        hints(tmp_path, tmp_path / "absent" / "out.png")
    write_run(tmp_path, make_history(2))
    with pytest.raises(UserError, match="groups must have several rounds, found none in"):
        hints(tmp_path, tmp_path / "other.png")


def test_folder_of_no_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a run's directory must hold metrics\.jsonl and recipe\.yaml"):
        hints(tmp_path)
