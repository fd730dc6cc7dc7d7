"""Numbers of a recipe that may change with the learner step."""

from collections.abc import Callable

from rollout.config import SamplingConfig
from shaping.records import Sampling
from shaping.scheduling import schedule_of


def sampling_at(config: SamplingConfig) -> Callable[[int], Sampling]:
    """The sampling of a group that is admitted while learner step `step` is next."""
    temperature = schedule_of(config.temperature, "rollout.sampling.temperature")

    def at(step: int) -> Sampling:
        return Sampling(
            temperature=temperature.value(step),
            top_p=config.top_p,
            top_k=config.top_k,
            max_response_tokens=config.max_response_tokens,
            stop=config.stop,
            entropy_source=config.entropy_source,
        )

    return at
