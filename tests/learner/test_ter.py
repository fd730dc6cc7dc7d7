"""ter: on fixture F, and on updates whose micro-batches lie on both sides of the target."""

import dataclasses
from pathlib import Path

import pytest
import torch
from learner_builders import make_batch, make_work, train_once
from method_fixture import fixture_loss

from learner.config import LearnerConfig
from learner.regularisers import ter
from learner.torch_learner import torch_learner
from shaping.components import ComponentSpec
from shaping.training import StepResult


def ter_spec(**options: object) -> ComponentSpec:
    return ComponentSpec(kind="ter", options=options)


def test_the_term_of_the_fixture() -> None:
    # mean entropy 4.9 / 8 = 0.6125, target 0.55: 0.001 x 0.0625, and gradient 0.001 / 8 on every entropy
    _, gradient, metrics = fixture_loss(None, regularisers=(ter_spec(),))
    assert metrics["learner_ter_loss"] == pytest.approx(6.25e-5, abs=1e-9)
    assert gradient[1] == pytest.approx([1.25e-4] * 8)


def test_entropy_below_the_target_is_raised() -> None:
    _, gradient, metrics = fixture_loss(None, regularisers=(ter_spec(target_nats=0.7, coefficient=0.1),))
    assert metrics["learner_ter_loss"] == pytest.approx(0.1 * 0.0875, abs=1e-7)
    assert gradient[1] == pytest.approx([-0.1 / 8] * 8)


def test_at_the_target_nothing_pulls() -> None:
    _, gradient, metrics = fixture_loss(None, regularisers=(ter_spec(target_nats=4.9 / 8),))
    assert metrics["learner_ter_loss"] == 0.0
    assert gradient[1] == [0.0] * 8


def test_the_coefficient_may_be_a_schedule() -> None:
    spec = {"kind": "linear", "start": 0.5, "stop": 1.0, "steps": 10}
    _, _, metrics = fixture_loss(None, regularisers=(ter_spec(coefficient=spec),))
    assert metrics["learner_ter_loss"] == pytest.approx(0.5 * 0.0625, abs=1e-7)


def train(path: str, folder: Path, **options: object) -> tuple[StepResult, dict[str, torch.Tensor]]:
    return train_once(path, folder, make_batch(12), **{"micro_batch_tokens": 60, **options})


def test_the_term_is_one_distance_however_the_update_is_divided(tied_policy_path: str, tmp_path: Path) -> None:
    # The target is the update's mean but for 0.001 nats: of a distance per micro-batch, both sides would be left over.
    plain, _ = train(tied_policy_path, tmp_path / "plain")
    mean = plain.metrics["learner_entropy_nats"]
    term = ter_spec(coefficient=5.0, target_nats=mean - 0.001)
    found = {}
    for tokens in (60, 10_000):
        result, found[tokens] = train(
            tied_policy_path, tmp_path / str(tokens), regularisers=(term,), micro_batch_tokens=tokens
        )
        assert result.metrics["learner_ter_loss"] == pytest.approx(5.0 * 0.001, abs=1e-5)
        assert result.metrics["learner_update_entropy_nats"] == pytest.approx(mean, abs=1e-6)
    for name, weight in found[10_000].items():
        torch.testing.assert_close(found[60][name], weight, atol=2e-5, rtol=0)


def test_the_update_is_looked_at_in_advance_only_where_somebody_needs_it(tied_policy_path: str, tmp_path: Path) -> None:
    plain, _ = train(tied_policy_path, tmp_path, regularisers=(ComponentSpec(kind="hint_nll"),))
    assert not {"learner_plan_s", "learner_update_entropy_nats"} & plain.metrics.keys()
    looked, _ = train(tied_policy_path, tmp_path, regularisers=(ter_spec(),))
    assert {"learner_plan_s", "learner_update_entropy_nats"} <= looked.metrics.keys()
    planned, _ = train(tied_policy_path, tmp_path, token_plans=(ComponentSpec(kind="forking_tokens"),))
    assert "learner_update_entropy_nats" not in planned.metrics and "learner_plan_s" in planned.metrics


def test_every_update_of_a_step_is_measured_under_the_policy_before_it(tied_policy_path: str, tmp_path: Path) -> None:
    term = ter_spec(coefficient=0.5, target_nats=1.0)
    result, _ = train(tied_policy_path, tmp_path, regularisers=(term,), mini_batch_groups=1)
    assert result.num_updates == 3
    # Both are means over all tokens of the three updates, each before its gradient.
    assert result.metrics["learner_update_entropy_nats"] == pytest.approx(result.metrics["learner_entropy_nats"])


def test_a_learner_goes_on_with_the_term_from_the_next_step_on(tied_policy_path: str) -> None:
    config = LearnerConfig(engine="torch", dtype="float32")
    learner = torch_learner(config, model_path=tied_policy_path, seed=0)
    learner.start()
    learner.step(make_work(make_batch(4), config))
    changed = dataclasses.replace(config, regularisers=(ter_spec(coefficient=0.1),))
    learner.configure(changed)
    assert learner.step(make_work(make_batch(4), changed, step=1)).metrics["learner_ter_loss"] > 0


@pytest.mark.parametrize("wrong", [{"coefficient": -1.0}, {"target_nats": -0.1}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be >= 0"):
        ter.Config(**wrong)
