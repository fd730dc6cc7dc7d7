"""Arms and seeds as recipes: what pairs share, and what cannot be compared."""

from pathlib import Path
from typing import Any

import pytest
from study_builders import write_study

from services.study.document import load_study
from services.study.planning import StudyPlan, flat, plan_study
from shaping.errors import UserError

STUDIES = sorted((Path(__file__).parents[3] / "deploy" / "studies").glob("*.yaml"))


def plan(folder: Path, changes: dict[str, Any] | None = None, **more: Any) -> StudyPlan:
    path = write_study(folder, changes, **more)
    return plan_study(load_study(path), base_dir=path.parent)


def arms(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"arms": {"grpo": {}, "less": changes}}


def test_runs_of_one_seed_differ_in_what_the_arm_changes_alone(tmp_path: Path) -> None:
    found = plan(tmp_path, {"set": {"run.steps": 6}, "num_samples": 4})
    assert [run.name for run in found.runs[:3]] == ["grpo/seed-000", "less/seed-000", "grpo/seed-001"]
    assert len(found.runs) == 6
    grpo, less, later = (flat(run.recipe.as_dict()) for run in found.runs[:3])
    assert {key for key in grpo | less if grpo.get(key) != less.get(key)} == {"name", "shaping.shapers"}
    assert {key for key in grpo | later if grpo.get(key) != later.get(key)} == {"name", "seed"}
    assert (grpo["run.steps"], grpo["evaluation.num_samples"], later["seed"]) == (6, 4, 1)


def test_every_other_arm_is_judged_twice(tmp_path: Path) -> None:
    three = {"arms": {"grpo": {}, "less": {}, "more": {"set": {"learner.num_epochs": 2}}}}
    assert plan(tmp_path, three).num_comparisons == 4


def test_layers_stand_beside_the_study(tmp_path: Path) -> None:
    path = write_study(tmp_path, {"recipe": "../base/recipe.yaml", **arms(**{"with": ["two.yaml"]})})
    (tmp_path / "two.yaml").write_text("learner: {num_epochs: 2}\n")
    write_study(tmp_path / ".." / "base")
    found = plan_study(load_study(path), base_dir=path.parent)
    assert [run.recipe.learner.num_epochs for run in found.runs[:2]] == [1, 2]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"model.path": "other/model"}, "found another model.path in less than in grpo"),
        ({"evaluation.num_problems": 8}, "found another evaluation.num_problems in less than in grpo"),
        ({"data.evaluation": {"kind": "arithmetic_task", "size": 9}}, "found another data.evaluation"),
        ({"run.steps": 5}, "found another run.steps in less than in grpo"),
        ({"seed": 3}, "a study sets seed of each run itself; take it out of set (arm less)"),
        ({"shaping.estimator": "grop"}, "(arm less)"),
        ({"rollout.engine": {"kind": "vllm"}}, "house mode runs in one process"),
    ],
)
def test_an_arm_that_cannot_be_run_or_compared_is_refused_by_name(
    tmp_path: Path, own: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as error:
        plan(tmp_path, arms(set=own))
    assert told in str(error.value) and "less" in str(error.value)


def test_there_must_be_something_to_compare_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a study needs held-out problems to compare arms on, found none"):
        plan(tmp_path, recipe={"data.evaluation": None})


def test_an_arm_that_sees_other_prompts_is_noted(tmp_path: Path) -> None:
    found = plan(tmp_path, arms(set={"rollout.groups_per_step": 2}))
    assert found.notes == ("less sees other prompts than grpo from the same seed: rollout.groups_per_step differs",)
    assert plan(tmp_path).notes == ()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_is_shipped_can_be_run(path: Path) -> None:
    found = plan_study(load_study(path), base_dir=path.parent)
    assert len(found.runs) == len(found.study.arms) * len(found.study.seeds)
