"""The plug-ins of a recipe: all are found, and those that contradict one another are refused unless forced."""

from pathlib import Path
from typing import Any

import pytest
from recipe_builders import make_recipe

from services.plan import make_plan
from services.plan_text import plan_text
from services.plugins import check_conflicts, load_plugins, named_plugins
from shaping import shapers
from shaping.components import kinds
from shaping.errors import RecipeError

EVERYWHERE = {
    "data.evaluation": {"kind": "arithmetic_task", "size": 4},
    "shaping.rewards": ["math_answer", {"kind": "format", "weight": 0.5}],
    "shaping.transforms": ["drop_uniform"],
    "learner.token_plans": ["clip_cov", "clip_cov"],
    "learner.regularisers": ["entropy_bonus"],
    "learner.optimizer.learning_rate": {"kind": "constant", "value": 1e-6},
}
FORKING = {"learner.token_plans": ["forking_tokens"]}
REASON = (
    "80/20 trains only tokens of high entropy and LESS changes only advantages of tokens of low entropy, "
    "so LESS would do next to nothing"
)


def refusal(changes: dict[str, Any], *, with_torch: bool = True) -> str:
    with pytest.raises(RecipeError) as caught:
        make_plan(make_recipe(changes), with_torch=with_torch)
    return str(caught.value)


def test_every_plugin_of_a_recipe_is_found_by_its_key() -> None:
    found = {key: (folder, spec.kind) for key, folder, spec in named_plugins(make_recipe(EVERYWHERE))}
    assert found == {
        "shaping.rewards[0]": ("shaping.rewards", "math_answer"),
        "shaping.rewards[1]": ("shaping.rewards", "format"),
        "shaping.transforms[0]": ("shaping.transforms", "drop_uniform"),
        "shaping.estimator": ("shaping.estimators", "grpo"),
        "shaping.shapers[0]": ("shaping.shapers", "less"),
        "data.train": ("rollout.sources", "arithmetic_task"),
        "data.evaluation": ("rollout.sources", "arithmetic_task"),
        "rollout.prompt_template": ("rollout.templates", "chat"),
        "rollout.plan": ("rollout.plans", make_recipe().rollout.plan.kind),
        "rollout.selector": ("rollout.selectors", make_recipe().rollout.selector.kind),
        "run.admission": ("rollout.admissions", "exact"),
        "rollout.memory": ("shaping.memories", make_recipe().rollout.memory.kind),
        "learner.optimizer.learning_rate": ("shaping.schedules", "constant"),
        "learner.loss": ("learner.losses", "ppo_clip"),
        "learner.token_plans[0]": ("learner.token_plans", "clip_cov"),
        "learner.token_plans[1]": ("learner.token_plans", "clip_cov"),
        "learner.regularisers[0]": ("learner.regularisers", "entropy_bonus"),
    }


def test_plugins_of_the_learner_are_loaded_only_with_torch_and_named_in_any_case() -> None:
    recipe = make_recipe(EVERYWHERE)
    with_torch, without = load_plugins(recipe), load_plugins(recipe, with_torch=False)
    assert with_torch.keys() == {key for key, _, _ in named_plugins(recipe)}
    assert with_torch.keys() - without.keys() == {key for key in with_torch if key.startswith("learner.")} - {
        "learner.optimizer.learning_rate"
    }
    message = refusal({"learner.token_plans": ["clip_cv"]}, with_torch=False)
    assert message == "no token_plans kind 'clip_cv'; did you mean 'clip_cov'? (learner.token_plans[0])"


@pytest.mark.parametrize("with_torch", [True, False])
def test_forking_tokens_on_top_of_less_are_refused_with_the_reason(with_torch: bool) -> None:
    assert refusal(FORKING, with_torch=with_torch) == (
        f"forking_tokens (learner.token_plans[0]) cannot run with less (shaping.shapers[0]): {REASON}; "
        "remove one of them, or set run.force to true"
    )
    assert check_conflicts(make_recipe({**FORKING, "shaping.shapers": ["uniform"]})) == ()


@pytest.mark.parametrize("with_torch", [True, False])
def test_a_forced_pair_is_a_warning_of_the_plan_that_names_it_and_the_reason(with_torch: bool) -> None:
    plan = make_plan(make_recipe({**FORKING, "run.force": True}), with_torch=with_torch)
    warning = f"forking_tokens (learner.token_plans[0]) contradicts less (shaping.shapers[0]), forced: {REASON}"
    assert plan.warnings[0] == f"{warning} (run.force)"
    assert warning in " ".join(plan_text(plan).split())


def test_force_alone_warns_of_nothing() -> None:
    plain, forced = make_plan(make_recipe()), make_plan(make_recipe({"run.force": True}))
    assert forced.warnings == plain.warnings


@pytest.mark.parametrize("order", [["clip_cov", "kl_cov"], ["kl_cov", "clip_cov"]])
def test_clip_cov_and_kl_cov_are_refused_together_in_any_order(order: list[str]) -> None:
    message = refusal({"learner.token_plans": order})
    assert message.startswith(f"kl_cov (learner.token_plans[{order.index('kl_cov')}]) cannot run with clip_cov (")
    assert "ratio clipping, which KL-Cov turns off" in message


@pytest.mark.parametrize("kind", ["clip_cov", "kl_cov"])
def test_covariance_plans_run_on_top_of_less(kind: str) -> None:
    assert check_conflicts(make_recipe({"learner.token_plans": [kind]})) == ()


def test_a_plugin_of_a_user_declares_its_conflicts_in_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One file in the folder is all it takes.
    (tmp_path / "lonely.py").write_text(
        "from dataclasses import dataclass\nNEEDS = frozenset()\nCONFLICTS = {'less': 'it wants to be alone'}\n"
        "@dataclass(frozen=True)\nclass Config:\n    pass\n"
        "def build(config):\n    return None\n"
    )
    monkeypatch.setattr(shapers, "__path__", [*shapers.__path__, str(tmp_path)])
    assert "lonely" in kinds("shaping.shapers")
    message = refusal({"shaping.shapers": ["less", "lonely"]})
    assert "lonely (shaping.shapers[1]) cannot run with less (shaping.shapers[0]): it wants to be alone;" in message
