"""forking_tokens; the laws that all token plans share are in tests/contracts."""

import pytest
from method_fixture import ENTROPIES, fixture_loss, make_signals

from learner.token_plans import forking_tokens
from learner.token_plans.base import Scope
from shaping.components import ComponentSpec


def forking_weights(entropies: list[float], **options: object) -> list[float]:
    plan = forking_tokens.build(forking_tokens.Config(**options))
    return plan.plan(make_signals(entropies)).weights.tolist()


def test_the_top_share_by_entropy_is_selected() -> None:
    # 0.2 of 8 tokens: k = ceil(1.6) = 2, tokens 1 and 5; mean over selected: 8 / 2 = 4 each
    assert forking_weights(ENTROPIES) == [0, 4, 0, 0, 0, 4, 0, 0]
    assert forking_weights(ENTROPIES, mean_over="all") == [0, 1, 0, 0, 0, 1, 0, 0]


def test_the_loss_of_forking_tokens_is_the_mean_over_them() -> None:
    # with the fixture's own clip range of 0.28: (-1.22140 + 1.10517) / 2
    wide = ComponentSpec(kind="ppo_clip", options={"clip_high": 0.28})
    loss, gradient, _ = fixture_loss(ComponentSpec(kind="forking_tokens"), loss=wide)
    assert loss == pytest.approx(-0.0581159, abs=1e-6)
    assert [index for index, value in enumerate(gradient[0]) if value] == [1, 5]


def test_share_one_changes_nothing() -> None:
    assert forking_weights(ENTROPIES, top_share=1.0) == [1.0] * 8


def test_at_least_one_token_is_selected_and_none_of_none() -> None:
    assert forking_weights([0.5], top_share=0.01) == [1.0]
    assert forking_weights([]) == []


def test_a_share_that_is_a_whole_number_of_tokens_is_not_rounded_up() -> None:
    # 0.2 x 15 is 3.0000000000000004 in floating point
    assert sum(weight > 0 for weight in forking_weights([float(i) for i in range(15)])) == 3


def test_tokens_that_tie_are_selected_together() -> None:
    # k = 2 of 8, but three tokens share the second place: 4 selected, 8 / 4 = 2 each
    assert forking_weights([2.0, 1, 1, 1, 0, 0, 0, 0]) == [2, 2, 2, 2, 0, 0, 0, 0]
    assert forking_weights([0.0] * 5) == [1.0] * 5


def test_parity_selects_by_position_among_equals_and_in_each_micro_batch() -> None:
    # 0.2 x 10 = 2 tokens: recommended takes all four that tie with the second, parity the first two in order
    entropies = [1.0, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    assert forking_weights(entropies) == [0, 2.5, 2.5, 2.5, 2.5, 0, 0, 0, 0, 0]
    assert forking_weights(entropies, variant="parity") == [0, 5, 5, 0, 0, 0, 0, 0, 0, 0]
    parity = forking_tokens.Config(variant="parity")
    assert forking_tokens.build(parity).scope is Scope.MICRO_BATCH


def test_parity_rounds_up_as_the_release_does() -> None:
    # int(0.2 x 8 + 0.9999) = 2 as ceil(1.6); int(0.00001 x 8 + 0.9999) = 0, of which at least one token is made;
    # int(0.12501 x 8 + 0.9999) = int(1.99998) = 1 where ceil(1.00008) is 2
    for share, parity, recommended in ((0.2, 2, 2), (0.00001, 1, 1), (0.12501, 1, 2)):
        for variant, wanted in (("parity", parity), ("recommended", recommended)):
            weights = forking_weights(ENTROPIES, top_share=share, variant=variant)
            assert sum(weight > 0 for weight in weights) == wanted


def test_parity_is_the_same_selection_where_nothing_ties() -> None:
    assert forking_weights(ENTROPIES, variant="parity") == forking_weights(ENTROPIES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_share": 0.0}, "top_share must be in"),
        ({"top_share": 1.1}, "top_share must be in"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        forking_tokens.Config(**options)
