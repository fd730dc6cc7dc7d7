"""What finished runs amount to, with differences worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_builders import make_record, write_finished_run, write_study

from services.study.document import load_study
from services.study.figure import write_curves, write_differences
from services.study.planning import StudyPlan, plan_study
from services.study.reading import RunRecord, read_run
from services.study.results import make_results
from services.study.table import results_table
from shaping.errors import DataError
from shaping.evaluation.paired_seeds import Verdict


def plan(folder: Path, changes: dict[str, Any] | None = None) -> StudyPlan:
    path = write_study(folder, changes)
    return plan_study(load_study(path), base_dir=path.parent)


def pairs(gains: list[float], **changes: Any) -> list[RunRecord]:
    """GRPO ends at 0.5 plus a twentieth of the seed, LESS that much higher."""
    records = []
    for seed, gain in enumerate(gains):
        level = 0.5 + seed / 20
        records.append(make_record("grpo", seed, [0.4, 0.4, level]))
        records.append(make_record("less", seed, [0.4, 0.4, level + gain], **changes))
    return records


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    results = make_results(plan(tmp_path), pairs([0.1, 0.2, 0.0]))
    found = results.comparisons["less"].at_steps
    assert (found.value, found.num_seeds, found.num_better, found.num_comparisons) == (pytest.approx(0.1), 3, 2, 2)
    # Means: 0.5, 0.55 and 0.6; 0.6, 0.75 and 0.6.
    assert results.arms["grpo"].measures["accuracy"].value == pytest.approx(0.55)
    assert results.arms["less"].measures["accuracy"].value == pytest.approx(0.65)


def test_at_equal_tokens_a_run_is_read_where_the_shortest_one_ended(tmp_path: Path) -> None:
    # GRPO ends at 400 tokens. LESS has sampled 600 by then, from 0.4 at 200 to 0.8: at 400 it is half way, at 0.6.
    records = [
        make_record("grpo", 0, [0.4, 0.4, 0.5]),
        make_record("less", 0, [0.4, 0.4, 0.8], tokens=[0, 200, 600]),
    ]
    results = make_results(plan(tmp_path), records)
    assert results.num_tokens == 400.0
    found = results.comparisons["less"]
    assert (found.at_steps.value, found.at_tokens.value) == (pytest.approx(0.3), pytest.approx(0.1))
    assert results.arms["less"].by_tokens.means[-1] == pytest.approx(0.6)


@pytest.mark.parametrize(("shift", "verdict"), [(0.2, Verdict.BETTER), (-0.2, Verdict.WORSE), (0.0, Verdict.NOT_SHOWN)])
def test_the_verdict_follows_the_interval(tmp_path: Path, shift: float, verdict: Verdict) -> None:
    gains = np.random.default_rng(1).normal(0, 0.02, 10)
    gains += shift - gains.mean()
    results = make_results(plan(tmp_path, {"seeds": 10}), pairs(gains.tolist()))
    assert results.verdicts("less") == {"at_equal_steps": verdict, "at_equal_tokens": verdict}
    assert f"| {verdict.value} |" in results_table(results)


def test_a_seed_that_only_one_arm_has_is_in_no_pair(tmp_path: Path) -> None:
    records = pairs([0.1, 0.3, 0.2])
    results = make_results(plan(tmp_path), records[:-1])
    assert results.comparisons["less"].at_steps.num_seeds == 2
    assert results.comparisons["less"].at_steps.value == pytest.approx(0.2)
    assert results.arms["grpo"].seeds == (0, 1, 2)
    assert results.notes == ("less: 2 of 3 runs are finished",)
    alone = make_results(plan(tmp_path), records[:1])
    assert alone.comparisons == {}


def test_pairs_that_saw_other_prompts_are_told(tmp_path: Path) -> None:
    results = make_results(plan(tmp_path), pairs([0.1, 0.2, 0.3], prompts=("b", "a")))
    assert (results.arms["grpo"].num_same_prompts, results.arms["less"].num_same_prompts) == (3, 0)
    assert "- less: the same prompts in the same order as grpo in 0 of 3 pairs of runs" in results_table(results)


def test_runs_evaluated_at_other_steps_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be evaluated at the same steps"):
        make_results(plan(tmp_path), [make_record("grpo", 0, [0.4, 0.5]), make_record("less", 0, [0.4, 0.5, 0.6])])
    with pytest.raises(DataError, match="a study needs a finished run before there are results"):
        make_results(plan(tmp_path), [])


def test_results_are_json_and_pictures_even_of_one_seed(tmp_path: Path) -> None:
    results = make_results(plan(tmp_path), pairs([0.1]))
    plain = json.loads(json.dumps(results.as_dict(), allow_nan=False))
    found = plain["comparisons"]["less"]["at_equal_steps"]
    assert (found["low"], found["high"], found["verdict"]) == (None, None, "no difference shown")
    assert plain["arms"]["less"]["by_steps"]["lows"] == [None, None, None]
    for write in (write_curves, write_differences):
        write(tmp_path / "picture.png", results)
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_finished_run(tmp_path / "run", [0.4, 0.5, 0.7], tokens=30, prompts="cab")
    measures = ("accuracy", "mean@k", "std@k", "rollout_entropy_nats", "tokens", "seconds")
    record = read_run(tmp_path / "run", arm="less", seed=2, measures=measures)
    assert (record.steps, record.tokens.tolist()) == ((0, 2, 4), [0.0, 60.0, 120.0])
    assert record.evaluations["accuracy"].tolist() == [0.4, 0.5, 0.7]
    assert record.prompts == ("c", "a", "b")
    # Entropy is 1 / step; of four steps the last alone counts.
    assert record.measures == pytest.approx(
        {"accuracy": 0.7, "mean@k": 0.7, "std@k": 0.25, "rollout_entropy_nats": 0.25, "tokens": 120.0, "seconds": 8.0}
    )


def test_a_run_without_its_last_evaluation_is_refused(tmp_path: Path) -> None:
    write_finished_run(tmp_path / "run", [0.4, 0.5])
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="a run of a study must have evaluated its last step, found 1 evaluations of 2"):
        read_run(tmp_path / "run", arm="less", seed=0, measures=("accuracy",))
