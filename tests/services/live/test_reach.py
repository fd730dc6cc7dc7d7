"""Every live key reaches the role that reads it, and does there what a run that began with the value would do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from group_builders import make_group, make_prompt, make_rollout
from learner_builders import make_batch, plan_samples, write_tiny_policy
from live_builders import FULL, make_live
from recipe_builders import make_recipe
from safetensors.torch import load_file
from toy_policy import write_toy_policy

from services.live.keys import changed_recipe
from services.live.rows import LEARNER_ROWS, ROLLOUT_ROWS, ROWS, SHAPING_ROWS
from services.recipe import Recipe
from services.reports import LiveChange
from services.roles.learner import LearnerRole, build_learner_role
from services.roles.shaping import ShapingRole, build_shaping_role
from shaping.errors import RecipeError

LEARNER_VALUES: dict[str, Any] = {
    "learner.optimizer.learning_rate": 0.05,
    "learner.optimizer.max_grad_norm": 1e-4,
    "learner.loss.clip_low": 0.01,
    "learner.loss.clip_high": 0.01,
    "learner.loss.dual_clip": 1.01,
    "learner.kl.coefficient": 5.0,
    "learner.correction.low": 0.9,
    "learner.correction.high": 1.1,
    "learner.regularisers.entropy_bonus.coefficient": -2.0,
    "learner.regularisers.hint_nll.gamma": 3.0,
    "learner.token_plans.clip_cov.share": 0.9,
    "learner.token_plans.kl_cov.top_share": 0.9,
    "learner.token_plans.kl_cov.beta": 9.0,
    "learner.token_plans.forking_tokens.top_share": 0.9,
    "rollout.sampling.temperature": 0.7,
}
ALWAYS = [key for key in LEARNER_VALUES if "plans" not in key and "correction" not in key]
SHAPING_VALUES: dict[str, Any] = {
    "shaping.segments.quantile": 0.3,
    "shaping.segments.min_length": 3,
    "shaping.segments.membership": "le",
    "shaping.segments.scope": "group",
    "shaping.segments.match": "kgram",
    "shaping.shapers.less.mode": "compat",
    "shaping.shapers.less.outside": "keep",
}


# -- the learner


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


PLANS = {
    "clip_cov": {"kind": "clip_cov", "share": 0.2, "lower": -10.0, "upper": 10.0},
    "kl_cov": {"kind": "kl_cov", "top_share": 0.2},
    "forking_tokens": {"kind": "forking_tokens", "top_share": 0.4},
}


def learner_recipe(policy: str, key: str = "") -> Recipe:
    """Two updates, so that the policy of the second is not the reference; and nothing that hides what the key does."""
    corrected = {"learner.correction": {"mode": "mask", "low": 0.5, "high": 1.5}}
    as_sampled = {"learner.correction": {"mode": "none"}, "learner.old_logprobs": "behavior"}
    return make_recipe(
        {
            **FULL,
            **(corrected if "correction" in key else as_sampled),
            "model.path": policy,
            "rollout.groups_per_step": 6,
            "rollout.max_prompt_tokens": 100,
            "learner.mini_batch_groups": 3,
            "learner.token_plans": [plan for name, plan in PLANS.items() if name in key],
            "learner.optimizer": {"learning_rate": 0.01},
        }
    )


Trained = tuple[dict[str, torch.Tensor], dict[str, float]]


def trained(role: LearnerRole, recipe: Recipe, folder: Path) -> Trained:
    """Policy and metrics after one step of a role."""
    samples = make_batch(24, num_hint=2)
    groups = {index: tuple(samples[4 * index : 4 * index + 4]) for index in range(6)}
    result = role.step(plan_samples(samples, recipe.learner), 0, groups)
    assert not result.skipped
    role.export(str(folder))
    role.close()
    return load_file(folder / "model.safetensors"), {
        name: value for name, value in result.metrics.items() if not name.endswith("_s")
    }


def started(recipe: Recipe) -> LearnerRole:
    role = build_learner_role(recipe, 0, ("", 0))
    role.start()
    return role


def is_same(left: Trained, right: Trained) -> bool:
    weights = all(torch.equal(left[0][name], right[0][name]) for name in left[0])
    return weights and left[1] == right[1]


@pytest.fixture(scope="module")
def as_it_was(policy: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    recipe = learner_recipe(policy)
    return trained(started(recipe), recipe, tmp_path_factory.mktemp("before"))


@pytest.mark.parametrize("key", LEARNER_VALUES)
def test_a_learner_that_is_told_trains_as_one_that_began_so(policy: str, tmp_path: Path, key: str) -> None:
    base = learner_recipe(policy, key)
    wanted = changed_recipe(base, {key: LEARNER_VALUES[key]})
    told = started(base)
    told.configure(wanted)
    found = trained(told, base, tmp_path / "told")
    assert is_same(found, trained(started(wanted), base, tmp_path / "began"))
    assert not is_same(found, trained(started(base), base, tmp_path / "before")), (
        "the value must make a difference here"
    )


def test_a_learner_that_is_told_the_recipe_before_is_as_it_was(policy: str, as_it_was: Trained, tmp_path: Path) -> None:
    base = learner_recipe(policy)
    role = started(base)
    role.configure(changed_recipe(base, {key: LEARNER_VALUES[key] for key in ALWAYS}))
    role.configure(base)
    assert is_same(trained(role, base, tmp_path / "back"), as_it_was)


@pytest.mark.parametrize(
    "change",
    [
        lambda learner: replace(learner, layout="padded"),
        lambda learner: replace(learner, optimizer=replace(learner.optimizer, beta1=0.5)),
        lambda learner: replace(learner, mini_batch_groups=2),
    ],
)
def test_a_learner_refuses_what_it_was_built_with_and_goes_on(
    policy: str, as_it_was: Trained, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    base = learner_recipe(policy)
    role = started(base)
    with pytest.raises(RecipeError, match="can change its objective, learning rate and gradient norm alone"):
        role.configure(base.model_copy(update={"learner": change(base.learner)}))
    assert is_same(trained(role, base, tmp_path / "after"), as_it_was)


def test_a_learner_without_a_reference_model_takes_no_kl_term(policy: str) -> None:
    base = learner_recipe(policy)
    without = base.model_copy(update={"learner": replace(base.learner, kl=replace(base.learner.kl, coefficient=0.0))})
    role = started(without)
    with pytest.raises(RecipeError, match="no reference model is loaded"):
        role.configure(base)


# -- shaping


def shaping_recipe(**changes: Any) -> Recipe:
    return make_recipe({"shaping.rewards": ["numeric_answer"], "shaping.segments": {"min_length": 2}, **changes})


def a_group() -> Any:
    """Eight rollouts of few words, with entropies of few values, so that runs, ties and shared strings are many."""
    rng = np.random.default_rng(4)
    rollouts = [
        make_rollout(
            rng.integers(0, 3, 24).tolist(),
            entropies=rng.integers(1, 9, 24) / 8 * (1 + index % 3),
            text="5" if index % 2 else "6",
        )
        for index in range(8)
    ]
    return make_group(rollouts, group_id="g00000000", prompt=make_prompt(reference_answer="5"))


def shaped(role: ShapingRole) -> np.ndarray:
    """Advantages of all samples of the group, one behind another."""
    _, samples = role.shape((a_group(),))
    return np.concatenate([each.advantages for each in samples])


@pytest.mark.parametrize("key", SHAPING_VALUES)
def test_a_shaping_worker_that_is_told_shapes_as_one_that_began_so(key: str) -> None:
    base = shaping_recipe()
    wanted = changed_recipe(base, {key: SHAPING_VALUES[key]})
    role = build_shaping_role(base)
    role.warm_up()
    before = shaped(role)
    role.configure(wanted)
    after = shaped(role)
    np.testing.assert_array_equal(after, shaped(build_shaping_role(wanted)))
    assert not np.array_equal(before, after), "the value must make a difference here"
    role.configure(base)
    np.testing.assert_array_equal(shaped(role), before)


def test_a_shaping_worker_refuses_other_rewards_and_goes_on() -> None:
    role = build_shaping_role(shaping_recipe())
    before = shaped(role)
    with pytest.raises(RecipeError, match="rewards and verifiers must stay as they were"):
        role.configure(shaping_recipe(**{"shaping.rewards": ["exact_match"]}))
    np.testing.assert_array_equal(shaped(role), before)


def test_groups_are_dumped_as_the_recipe_of_their_moment_says(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    base = shaping_recipe(**{"model.path": str(write_toy_policy(tmp_path / "policy")), "run.dump_groups_per_step": 0})
    role = build_shaping_role(base, path)
    shaped(role)
    assert not path.exists()
    role.configure(changed_recipe(base, {"run.dump_groups_per_step": 1, "shaping.shapers.less.outside": "keep"}))
    shaped(role)
    (line,) = path.read_text().splitlines()
    assert '"outside":"keep"' in line
    role.configure(base)
    shaped(role)
    assert len(path.read_text().splitlines()) == 1


# -- sampling


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rollout.sampling.temperature", 0.5),
        ("rollout.sampling.top_p", 0.9),
        ("rollout.sampling.max_response_tokens", 3),
    ],
)
async def test_the_next_group_is_sampled_as_the_change_says(key: str, value: float) -> None:
    live = make_live()
    await live.settings.at_start(0)

    def sampling() -> Any:
        planned = live.factory.next_request(live.factory.open(0), num_rounds_done=0, step=0)
        assert planned is not None
        return planned[1].sampling

    before, name = sampling(), key.rpartition(".")[2]
    live.settings.take([LiveChange(generation=2, values={key: value})])
    await live.settings.after_step(0)
    assert sampling() == replace(before, **{name: value})


# -- nobody is left out


def test_every_live_key_of_a_role_has_its_law_here() -> None:
    learner = {row.key for row in LEARNER_ROWS} | {"rollout.sampling.temperature"}
    assert set(LEARNER_VALUES) == learner
    assert set(SHAPING_VALUES) == {row.key for row in SHAPING_ROWS}
    assert len(ROLLOUT_ROWS) == 3
    assert {row.key.partition(".")[0] for row in ROWS} == {"learner", "shaping", "rollout", "run", "evaluation"}
