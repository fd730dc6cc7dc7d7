"""The sampling of a step."""

from rollout.config import SamplingConfig
from services.schedules import sampling_at
from shaping.components import ComponentSpec
from shaping.records import EntropySource, Sampling


def test_sampling_is_that_of_the_recipe_at_every_step() -> None:
    config = SamplingConfig(
        temperature=0.7,
        top_p=0.9,
        top_k=5,
        max_response_tokens=16,
        stop=("\n",),
        entropy_source=EntropySource.PROCESSED,
    )
    wanted = Sampling(
        temperature=0.7,
        top_p=0.9,
        top_k=5,
        max_response_tokens=16,
        stop=("\n",),
        entropy_source=EntropySource.PROCESSED,
    )
    assert sampling_at(config)(0) == sampling_at(config)(99) == wanted


def test_temperature_follows_its_schedule() -> None:
    spec = ComponentSpec(kind="linear", options={"start": 1.0, "stop": 0.5, "steps": 2})
    at = sampling_at(SamplingConfig(temperature=spec))
    assert [at(step).temperature for step in range(4)] == [1.0, 0.75, 0.5, 0.5]
