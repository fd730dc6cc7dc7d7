"""SEELE's closed loop on a simulated solver: prompts that are solved by chance, the better the longer the hint.

A response to prompt i is right with probability f_i(p) = b + (1 - b) / (1 + exp(-k (p + mu_i))), mu_i drawn from
N(-0.6, 0.12): with no guess rate the target of 0.5 is met at rates around 0.6. Groups of 4 rounds of 8, and what a
visit remembers is there at the next one. Figures are means over the prompts.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from plan_play import make_plan, make_stepped_prompt, play_visit

from rollout.accuracy_curve import AccuracyCurve
from rollout.plans.base import Round
from shaping.checks import FloatArray
from shaping.memories.last_values import LastValues

NUM_ROUNDS = 4
ROUND_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Mean accuracy and hint rate, each [epochs, rounds]."""

    accuracy: FloatArray
    rate: FloatArray


def simulate(
    *,
    num_steps: int,
    slope: float,
    guess: float = 0.0,
    drift: float = 0.0,
    num_prompts: int = 150,
    num_epochs: int = 3,
    seed: int = 0,
) -> Loop:
    """Visit every prompt once an epoch; capability rises by `drift` after each."""
    rng = np.random.default_rng(seed)
    plan, memory = make_plan("seele", group_size=NUM_ROUNDS * ROUND_SIZE), LastValues()
    shifts = -0.6 + rng.normal(0.0, 0.12, num_prompts)
    accuracy, rate = (np.zeros((num_epochs, NUM_ROUNDS)) for _ in range(2))
    for epoch in range(num_epochs):
        for index, shift in enumerate(shifts):
            solver = AccuracyCurve(slope=slope, shift=float(shift) + epoch * drift, guess=guess)

            def solve(planned: Round, solver: AccuracyCurve = solver) -> int:
                return int(rng.binomial(planned.num_rollouts, solver.accuracy(planned.hint_rate)))

            prompt = make_stepped_prompt(num_steps, prompt_id=f"p{index}")
            finished = play_visit(plan, memory, prompt, solve, visit=epoch + 1)
            accuracy[epoch] += [each.num_correct / each.num_decided / num_prompts for each in finished]
            rate[epoch] += [each.round.hint_rate / num_prompts for each in finished]
    return Loop(accuracy=accuracy, rate=rate)


@pytest.mark.parametrize(
    # The rates of 5 steps are coarse: on a flat curve few prompts have one on the target, and the mean comes near it.
    ("num_steps", "slope", "tolerance", "num_prompts"),
    [(5, 8.0, 0.07, 600), (5, 20.0, 0.05, 600), (50, 20.0, 0.05, 150)],
)
def test_from_a_start_that_is_too_easy_the_last_round_comes_to_the_target(
    num_steps: int, slope: float, tolerance: float, num_prompts: int
) -> None:
    loop = simulate(num_steps=num_steps, slope=slope, num_prompts=num_prompts)
    assert loop.accuracy[0, 0] > 0.75
    assert loop.accuracy[2, 3] == pytest.approx(0.5, abs=tolerance)
    # From its second visit on a prompt begins where it ended.
    assert loop.rate[1, 0] == pytest.approx(loop.rate[0, 3])
    assert abs(loop.accuracy[2, 0] - 0.5) < abs(loop.accuracy[0, 0] - 0.5)


def test_hints_fall_as_capability_rises_and_accuracy_stays() -> None:
    loop = simulate(num_steps=50, slope=20.0, drift=0.15, num_prompts=300)
    assert loop.rate[:, 3] == pytest.approx([0.6, 0.45, 0.3], abs=0.03)
    assert loop.accuracy[:, 3] == pytest.approx([0.5, 0.5, 0.5], abs=0.03)


def test_where_guessing_beats_the_target_hints_fall_and_accuracy_settles_above_it() -> None:
    loop = simulate(num_steps=5, slope=20.0, guess=0.6, num_epochs=4)
    assert np.all(np.diff(loop.rate[:, 3]) < 0)
    assert loop.accuracy[3, 3] == pytest.approx(0.65, abs=0.04)
    assert loop.rate[3, 3] < 0.45
