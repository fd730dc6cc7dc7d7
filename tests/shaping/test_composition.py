"""LESS with every estimator and with other shapers: multipliers multiply, in the order of the recipe."""

from pathlib import Path

import numpy as np
import pytest
from group_builders import make_group, make_rollout

from shaping import shapers
from shaping.components import ComponentSpec, kinds
from shaping.config import ShapingConfig
from shaping.groups import ShapedGroup
from shaping.kernels.base import SegmentRule
from shaping.pipeline import ShapingPipeline, TrainableGroup
from shaping.records import RolloutGroup

# Two correct rollouts share 1 2; one of them shares 3 4 with the wrong one; 9 is a fork of entropy 1, which is also the
# threshold, so forks are low and in no segment. N = 2 correct and 1 wrong.
RESPONSES = {"5": [1, 2, 9, 3, 4, 9], "5.0": [1, 2, 9, 5, 6, 9], "6": [3, 4, 9, 7, 8, 9]}
MULTIPLIERS = [[1, 1, 0.5, 0, 0, 0.5], [1, 1, 0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1, 1, 1]]
# Rewards 1, 1, 0: mean 2/3, unbiased standard deviation sqrt(1/3).
ADVANTAGES = {
    "grpo": [3**0.5 / 3, 3**0.5 / 3, -2 * 3**0.5 / 3],
    "dr_grpo": [1 / 3, 1 / 3, -2 / 3],
    "rloo": [1 / 2, 1 / 2, -1],  # the others' means are 1/2, 1/2 and 1
}
HALVE = """
from dataclasses import dataclass
import numpy as np
from shaping.shapers.base import ShaperResult

NEEDS = frozenset()

@dataclass(frozen=True)
class Config:
    above: float

class Halve:
    def __init__(self, config):
        self.config = config

    def multipliers(self, segmented, advantages):
        rows = tuple(np.where(np.abs(row) > self.config.above, 0.5, 1).astype(np.float32) for row in advantages)
        return ShaperResult(multipliers=rows)

def build(config):
    return Halve(config)
"""
LESS, UNIFORM = ComponentSpec(kind="less"), ComponentSpec(kind="uniform")


def make_mixed() -> RolloutGroup:
    return make_group(
        [
            make_rollout(ids, entropies=[float(token == 9) for token in ids], text=f"\\boxed{{{answer}}}")
            for answer, ids in RESPONSES.items()
        ]
    )


def shape(*chain: ComponentSpec, estimator: str = "grpo") -> ShapedGroup:
    config = ShapingConfig(
        segments=SegmentRule(min_length=2), estimator=ComponentSpec(kind=estimator), shapers=tuple(chain)
    )
    result = ShapingPipeline(config).shape((make_mixed(),))
    assert isinstance(result, TrainableGroup)
    for sample, row in zip(result.samples, result.shaped.advantages, strict=True):
        np.testing.assert_array_equal(sample.advantages[sample.loss_mask], row)
    return result.shaped


@pytest.mark.parametrize("estimator", sorted(ADVANTAGES))
def test_less_multiplies_the_advantages_of_any_estimator(estimator: str) -> None:
    shaped = shape(LESS, estimator=estimator)
    for row, base, factors, advantage in zip(
        shaped.advantages, shaped.base_advantages, MULTIPLIERS, ADVANTAGES[estimator], strict=True
    ):
        np.testing.assert_allclose(base, np.full(6, advantage), rtol=3e-6)
        np.testing.assert_array_equal(row, base * np.array(factors, np.float32))


@pytest.mark.parametrize("estimator", kinds("shaping.estimators"))
def test_less_gives_the_same_multipliers_and_leaves_the_base_whatever_the_estimator(estimator: str) -> None:
    shaped, bare = shape(LESS, estimator=estimator), shape(estimator=estimator)
    assert [row.tolist() for row in shaped.multipliers] == MULTIPLIERS
    for base, plain in zip(shaped.base_advantages, bare.advantages, strict=True):
        np.testing.assert_array_equal(base, plain)


@pytest.mark.parametrize("estimator", kinds("shaping.estimators"))
def test_the_identity_before_or_after_less_changes_nothing(estimator: str) -> None:
    alone = shape(LESS, estimator=estimator)
    for chain in ((UNIFORM, LESS), (LESS, UNIFORM)):
        for row, wanted in zip(shape(*chain, estimator=estimator).advantages, alone.advantages, strict=True):
            np.testing.assert_array_equal(row, wanted)


def test_shapers_see_what_those_before_them_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `halve` takes half of every advantage above 0.2. Base of rollout 0: 1/3 everywhere; of rollout 2: -2/3.
    (tmp_path / "halve.py").write_text(HALVE)
    monkeypatch.setattr(shapers, "__path__", [*shapers.__path__, str(tmp_path)])
    halve = ComponentSpec(kind="halve", options={"above": 0.2})
    # After LESS rollout 0 has 1/3 on 1 2 alone, so forks are not halved again; before it, everything is.
    after, before = shape(LESS, halve, estimator="dr_grpo"), shape(halve, LESS, estimator="dr_grpo")
    assert after.multipliers[0].tolist() == [0.5, 0.5, 0.5, 0, 0, 0.5]
    assert before.multipliers[0].tolist() == [0.5, 0.5, 0.25, 0, 0, 0.25]
    assert after.multipliers[2].tolist() == before.multipliers[2].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5]
    # Twice after LESS: 1/3 -> 1/6 is below 0.2, so the second finds nothing in rollout 0; 2/3 -> 1/3 -> 1/6.
    twice = shape(LESS, halve, halve, estimator="dr_grpo")
    assert twice.multipliers[0].tolist() == after.multipliers[0].tolist()
    assert twice.multipliers[2].tolist() == [0, 0, 0.25, 0.25, 0.25, 0.25]
