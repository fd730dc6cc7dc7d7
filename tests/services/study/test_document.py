"""A study's file: what it may say, and one line for the first thing that it may not."""

from pathlib import Path
from typing import Any

import pytest
from study_builders import make_study, write_study

from services.study.document import Study, load_study
from services.study.measures import DEFAULT_MEASURES, evaluation_measures
from shaping.errors import UserError


def load(folder: Path, changes: dict[str, Any]) -> Study:
    return load_study(write_study(folder, changes))


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    study = load(tmp_path, {"arms": {"a": None, "b": {"with": ["less.yaml"]}}, "baseline": "a"})
    assert study.seeds == (0, 1, 2)
    assert (study.run.address, study.run.jobs, study.num_samples) == ("house", 1, None)
    assert (study.arms["a"].layers, study.arms["b"].layers) == ((), ("less.yaml",))
    assert study.measures == DEFAULT_MEASURES


def test_seeds_are_a_number_of_them_or_a_list(tmp_path: Path) -> None:
    assert load(tmp_path, {"seeds": [7, 3]}).seeds == (7, 3)
    assert load(tmp_path, {"seeds": 2}).seeds == (0, 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sedes": 3}, "unknown key 'sedes'; did you mean 'seeds'? (sedes in "),
        ({"run": {"job": 3}}, "unknown key 'job'; did you mean 'jobs'? (run.job in "),
        ({"arms": {"grpo": {"sett": {}}, "b": {}}}, "unknown key 'sett'; did you mean 'set'? (arms.grpo.sett in "),
        ({"run": {"address": "house", "zzz": 1}}, "unknown key 'zzz'; known here: address, jobs (run.zzz in "),
        ({"run": {"jobs": 0}}, "must be greater than or equal to 1, got 0 (run.jobs in "),
        ({"baseline": "ppo"}, "baseline must be one of the arms grpo, less, got 'ppo' ("),
        ({"arms": {"grpo": {}}}, "arms must be at least two, got grpo ("),
        ({"arms": {"grpo": {}, "a/b": {}}}, "an arm's name must be 1 to 32 letters, digits, dots, dashes"),
        ({"seeds": [1, 1]}, "seeds must be different numbers >= 0, got [1, 1] ("),
        ({"seeds": 0}, "seeds must be 1 to 1000, or a list, got 0 (seeds in "),
        ({"measures": ["seconds"]}, "decides and must be one of accuracy, mean@k, worst@k, all@k, got 'seconds' ("),
        ({"measures": []}, "decides and must be one of accuracy, mean@k, worst@k, all@k, got none ("),
        ({"arms": ["grpo"]}, "must be a mapping of keys, got ['grpo'] (arms in "),
        ({"measures": ["accuracy", "mean@4"]}, "a measure must be one of accuracy, mean@k, worst@k"),
        ({"measures": ["accuracy", "accuracy"]}, "measures must differ"),
    ],
)
def test_a_mistake_is_told_by_its_place(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, changes)
    assert told in str(error.value) and str(tmp_path) in str(error.value)


def test_a_key_that_must_be_there_is_named(tmp_path: Path) -> None:
    raw = make_study()
    del raw["recipe"]
    path = tmp_path / "study.yaml"
    path.write_text(str(raw))
    with pytest.raises(UserError, match=r"recipe must be given \(recipe in "):
        load_study(path)


@pytest.mark.parametrize(
    ("text", "told"), [("[1]", "a study must be a mapping of keys, found list"), ("a: [", "in line 1, column 5")]
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        load_study(path)
    with pytest.raises(UserError, match="a study must be a YAML file, found no file"):
        load_study(tmp_path / "none.yaml")


def test_measures_of_an_evaluation_are_means_over_its_sets() -> None:
    metrics = {
        "val-core/held_out/acc/mean@4": 0.8,
        "val-aux/held_out/acc/worst@4/expected": 0.5,
        "val-aux/held_out/acc/std@4": 0.2,
        "val-core/hard/acc/mean@2": 0.4,
        "val-aux/hard/acc/worst@2/expected": 0.3,
        "val-core/hard/acc/best@2/mean": 0.9,
    }
    # std@k is not known of both sets.
    assert evaluation_measures(0.6, metrics) == pytest.approx({"accuracy": 0.6, "mean@k": 0.6, "worst@k": 0.4})


def test_of_one_answer_a_problem_the_worst_is_that_answer() -> None:
    found = evaluation_measures(0.8, {"val-core/held_out/acc/mean@1": 0.8, "val-aux/held_out/acc/all_right@1": 0.8})
    assert found == {"accuracy": 0.8, "mean@k": 0.8, "worst@k": 0.8, "all@k": 0.8}
