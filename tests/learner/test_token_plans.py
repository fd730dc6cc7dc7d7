import pytest
import torch

from learner.token_plans.base import Scope, TokenSignals
from learner.token_plans.forking_tokens import Config, build

FIXTURE_ENTROPIES = [0.2, 1.0, 0.5, 0.1, 0.8, 1.6, 0.4, 0.3]


def weights(entropies: list[float], **options: object) -> list[float]:
    values = torch.tensor(entropies)
    signals = TokenSignals(
        policy_logprobs=-values, policy_entropies=values, behavior_logprobs=-values, advantages=torch.ones_like(values)
    )
    return build(Config(**options)).plan(signals).weights.tolist()


def test_the_top_share_by_entropy_is_selected() -> None:
    # 0.2 of 8 tokens: k = ceil(1.6) = 2, tokens 1 and 5; mean over selected: 8 / 2 = 4 each
    assert weights(FIXTURE_ENTROPIES) == [0, 4, 0, 0, 0, 4, 0, 0]
    assert weights(FIXTURE_ENTROPIES, mean_over="all") == [0, 1, 0, 0, 0, 1, 0, 0]


def test_share_one_changes_nothing() -> None:
    assert weights(FIXTURE_ENTROPIES, top_share=1.0) == [1.0] * 8


def test_at_least_one_token_is_selected_and_none_of_none() -> None:
    assert weights([0.5], top_share=0.01) == [1.0]
    assert weights([]) == []


def test_a_share_that_is_a_whole_number_of_tokens_is_not_rounded_up() -> None:
    # 0.2 x 15 is 3.0000000000000004 in floating point
    assert sum(weight > 0 for weight in weights([float(i) for i in range(15)])) == 3


def test_tokens_that_tie_are_selected_together() -> None:
    # k = 2 of 8, but three tokens share the second place: 4 selected, 8 / 4 = 2 each
    assert weights([2.0, 1, 1, 1, 0, 0, 0, 0]) == [2, 2, 2, 2, 0, 0, 0, 0]
    assert weights([0.0] * 5) == [1.0] * 5


def test_the_scope_is_the_whole_update_unless_said_otherwise() -> None:
    assert build(Config()).scope is Scope.UPDATE
    assert build(Config(scope=Scope.MICRO_BATCH)).scope is Scope.MICRO_BATCH


@pytest.mark.parametrize("top_share", [0.0, 1.1])
def test_an_impossible_share_is_refused(top_share: float) -> None:
    with pytest.raises(ValueError, match="top_share must be in"):
        Config(top_share=top_share)
