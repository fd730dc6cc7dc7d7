"""Histograms with edges that never move, of numbers counted by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_view_builders import append_groups, make_group_line, make_run_dir

from services.run_view.distributions import EDGES, KINDS
from services.run_view.refusals import NotFound
from services.run_view.view import RunView
from shaping.errors import UserError


def counted(run_dir: Path, kind: str, *lines: dict[str, Any]) -> dict[float, int]:
    """Numbers by the lower edge of their bin, empty bins left out."""
    append_groups(run_dir, lines)
    found = RunView(run_dir).distribution(kind, 1)
    assert (found["kind"], found["step"], found["n"]) == (kind, 1, sum(found["counts"]))
    assert len(found["edges"]) == len(found["counts"]) + 1
    return {round(edge, 6): number for edge, number in zip(found["edges"], found["counts"], strict=False) if number}


@pytest.mark.parametrize("kind", KINDS)
def test_edges_rise(kind: str) -> None:
    assert (np.diff(EDGES[kind]) > 0).all()


def test_rewards_one_per_response_with_those_beyond_the_ends_in_the_last_bins(tmp_path: Path) -> None:
    line = make_group_line(rewards=[-7.0, -0.1, 0.0, 0.1, 0.3, 1.0, 2.0, 9.0], size=8)
    assert counted(tmp_path, "reward", line) == {-1.0: 1, -0.1: 1, 0.0: 1, 0.1: 1, 0.3: 1, 1.0: 1, 1.9: 2}


def test_advantages_one_per_token_after_shaping(tmp_path: Path) -> None:
    # Two correct responses of four tokens at 1 x 1, two incorrect ones at -1 x 0.5.
    assert counted(tmp_path, "advantage", make_group_line()) == {-0.5: 8, 1.0: 8}


def test_multipliers_that_are_0_and_1_have_bins_of_their_own(tmp_path: Path) -> None:
    line = make_group_line(size=1, num_correct=1, tokens="abcdef")
    # As the run writes float32: 0.35 and 0.05 lie on edges.
    line["responses"][0]["multipliers"] = [0.0, 0.015625, 0.05, 0.35, 0.99, 1.0]
    assert counted(tmp_path, "multiplier", line) == {0.0: 1, 1e-6: 1, 0.05: 1, 0.35: 1, 0.95: 1, 1.0: 1}


def test_entropies_from_nothing_to_the_largest(tmp_path: Path) -> None:
    line = make_group_line(size=1, num_correct=1, tokens="abcd")
    line["responses"][0]["entropies"] = [0.0, 2e-5, 1.0, 12.0]
    # 10^-4.75 = 1.78e-5, 10^0 = 1, 10^0.75 = 5.62.
    assert counted(tmp_path, "token_entropy", line) == {0.0: 1, 0.000018: 1, 1.0: 1, 5.623413: 1}


def test_response_lengths_and_segment_lengths_in_tokens(tmp_path: Path) -> None:
    # Of ten tokens the eight smallest are low; "lt" leaves out the threshold itself, the ninth: runs of 4 and 4.
    line = make_group_line(size=2, num_correct=1, tokens="abcdHefghT")
    for response in line["responses"]:
        response["entropies"] = [0.1] * 4 + [1.0] + [0.1] * 4 + [0.5]
    assert counted(tmp_path, "segment_length", line) == {4.0: 4}
    assert RunView(tmp_path).distribution("response_length", 1)["counts"][1] == 2


def test_groups_of_a_step_add_up_and_the_newest_step_is_the_default(tmp_path: Path) -> None:
    append_groups(tmp_path, [make_group_line(0, step=1), make_group_line(1, step=2), make_group_line(2, step=2)])
    view = RunView(tmp_path)
    found = view.distribution("response_length")
    assert (found["step"], found["n"], found["num_groups"]) == (2, 8, 2)
    append_groups(tmp_path, [make_group_line(3, step=2)])
    assert view.distribution("response_length")["n"] == 12
    assert view.distribution("response_length") == view.distribution("response_length", 2)


def test_a_number_that_was_not_written_is_not_there_rather_than_zero(tmp_path: Path) -> None:
    line = make_group_line()
    for response in line["responses"]:
        del response["extra"], response["multipliers"]
    append_groups(tmp_path, [line])
    for kind in ("reward", "multiplier", "advantage"):
        with pytest.raises(NotFound, match="must be written down with their group, found none"):
            RunView(tmp_path).distribution(kind, 1)


def test_a_step_without_stored_groups_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, num_steps=1))
    with pytest.raises(NotFound, match="no group of step 2 was written down"):
        view.distribution("reward", 2)
    with pytest.raises(UserError, match="kind must be one of reward, advantage"):
        view.distribution("hope", 1)
    with pytest.raises(NotFound, match="no group of any step was written down"):
        RunView(make_run_dir(tmp_path / "other", stored_per_step=0)).distribution("reward")
