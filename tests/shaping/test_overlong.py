"""Responses near the limit are punished; where the limit comes from."""

import pytest
from group_builders import make_group, make_request, make_rollout

from shaping.config import RewardConfig, ShapingConfig
from shaping.pipeline import ShapingPipeline, TrainableGroup
from shaping.records import merge_rounds
from shaping.rewards.overlong import Config, build, penalty


@pytest.mark.parametrize(
    ("num_tokens", "value"),
    # DAPO's limit 20480 and buffer 4096: free up to 16384; 18432 is half-way, 17408 a quarter.
    [(0, 0.0), (16384, 0.0), (16385, -1 / 4096), (17408, -0.25), (18432, -0.5), (20480, -1.0), (20481, -1.0)],
)
@pytest.mark.parametrize("config", [Config(), Config(buffer_tokens=4096)])
def test_the_published_limit_and_buffer(config: Config, num_tokens: int, value: float) -> None:
    assert penalty(num_tokens, 20480, config) == value


def test_the_buffer_is_a_share_of_the_limit_in_whole_tokens() -> None:
    # A third of 10 is 3 tokens: free up to 7, then a third a token.
    assert [penalty(length, 10, Config(buffer_share=1 / 3)) for length in (7, 8, 9, 10)] == [0, -1 / 3, -2 / 3, -1]
    # A fifth of 2 would be none.
    assert [penalty(length, 2, Config()) for length in (1, 2)] == [0.0, -1.0]
    # A buffer longer than the limit takes from every response.
    assert penalty(0, 4, Config(buffer_tokens=8)) == -0.5


def test_without_a_known_limit_nothing_is_taken() -> None:
    assert build(Config()).score(make_request(num_tokens=10**6)).value == 0.0


def test_it_pays_and_never_decides() -> None:
    reward = build(Config())
    assert not reward.decides_correctness
    result = reward.score(make_request(num_tokens=95, max_response_tokens=100))
    assert (result.value, result.verdict.is_decided) == (-0.75, True)


def test_the_limit_that_a_group_was_sampled_with_reaches_the_reward() -> None:
    rewards = (RewardConfig(kind="exact_match"), RewardConfig(kind="overlong", weight=0.5))
    rollouts = [make_rollout([1] * length, entropies=[0.1] * length, text="5") for length in (8, 9, 10)]
    pipeline = ShapingPipeline(ShapingConfig(rewards=rewards))
    result = pipeline.shape((make_group(rollouts, max_response_tokens=10),))
    assert isinstance(result, TrainableGroup)
    scored = result.shaped.segmented.scored
    # Limit 10, buffer 2: 0, -1/2 and -1, half of which is paid beside the 1 for the answer.
    assert scored.reward_parts["overlong"].tolist() == [0.0, -0.5, -1.0]
    assert scored.rewards.tolist() == [1.0, 0.75, 0.5]
    assert scored.correct.all()


def test_rounds_of_a_group_keep_their_limit() -> None:
    rounds = tuple(make_group([make_rollout()], max_response_tokens=limit) for limit in (16, 16))
    assert merge_rounds(rounds).max_response_tokens == 16
    # A limit that was lowered while the group was under way.
    rounds = tuple(make_group([make_rollout()], max_response_tokens=limit) for limit in (16, 8))
    assert merge_rounds(rounds).max_response_tokens == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_share": 0.0}, r"buffer_share must be in \(0, 1\], got 0.0"),
        ({"buffer_tokens": -1}, "buffer_tokens must be >= 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)  # type: ignore[arg-type]
