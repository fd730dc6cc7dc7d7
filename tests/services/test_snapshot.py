"""The run's state as JSON: what ended and was not learned from yet comes back as it was, rounds and all."""

import json
from dataclasses import asdict, replace

import numpy as np
from prompt_builders import make_factory

from rollout.plans.base import FinishedRound, Round
from rollout.selectors.base import GroupOutcome
from services.snapshot import EndedGroupState, OpenGroupState, ended_group, ended_groups, open_group, open_groups


def test_a_group_that_ended_comes_back_with_its_rounds_and_its_outcome() -> None:
    factory = make_factory(solution_steps=("a", "b"))
    group = factory.open(4)
    # A third is no float32: its nearest one is, and that comes back bit for bit.
    rewards = np.array([1.0, 1 / 3, -0.1], dtype=np.float32)
    group.finished.append(FinishedRound(round=Round(num_rollouts=3), rewards=rewards, num_correct=1))
    hinted = Round(num_rollouts=2, hint="a", solution="ab", planned_rate=0.3, hint_rate=0.25, temperature_scale=0.5)
    group.finished.append(FinishedRound(round=hinted, rewards=rewards[:2], num_correct=2, num_hint_tokens=5))
    outcome = GroupOutcome(prompt_id=group.prompt.prompt_id, num_correct=3, num_scored=5, was_trained=False)
    (state,) = ended_groups([(group, outcome)])
    plain = json.loads(json.dumps({name: getattr(state, name) for name in state.__slots__}))
    again, found = ended_group(EndedGroupState(**plain), factory.reopen)
    assert found == outcome
    assert (again.ordinal, again.prompt, again.visit) == (4, group.prompt, group.visit)
    assert [each.round for each in again.finished] == [Round(num_rollouts=3), hinted]
    assert [each.num_correct for each in again.finished] == [1, 2]
    assert [each.num_hint_tokens for each in again.finished] == [0, 5]
    for left, right in zip(again.finished, group.finished, strict=True):
        assert left.rewards.dtype == np.float32
        np.testing.assert_array_equal(left.rewards, right.rewards)


def test_a_group_in_flight_is_opened_again_with_what_was_recalled_of_it() -> None:
    factory = make_factory()
    group = replace(factory.open(3), recalled={"hint_rate": 0.4})
    (state,) = open_groups([group])
    plain = json.loads(json.dumps(asdict(state)))
    again = open_group(OpenGroupState(**plain), factory.reopen)
    assert (again.ordinal, again.prompt, again.visit) == (3, group.prompt, group.visit)
    assert again.recalled == {"hint_rate": 0.4}
