"""What one rank is asked to train in one learner step, and what a started learner says of itself."""

from collections.abc import Callable
from dataclasses import dataclass

from learner.batch_plan import BatchPlan, SampleSize
from shaping.records import EntropySource
from shaping.training import TrainingSample


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatchWork:
    """One optimizer update as one rank sees it.

    Args:
        micro_batches: this rank's samples per forward pass; an empty tuple where it only takes part.
        num_valid_tokens: trained tokens of the update over all ranks.
    """

    micro_batches: tuple[tuple[TrainingSample, ...], ...]
    num_valid_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """One learner step of one rank.

    Args:
        step: 0-based learner step, the argument of every schedule.
        policy_version: the version that trains; the step makes the next one.
        temperature: the sampling temperature; logits are divided by it for log-probabilities.
        entropy_source: of which distribution the sampler's entropies are, so that the learner compares like with like.
            A truncated (top-k, top-p) sampling distribution is not reproduced.
        mini_batches: updates in order, epochs included.
    """

    step: int
    policy_version: int
    temperature: float
    entropy_source: EntropySource = EntropySource.RAW
    mini_batches: tuple[MiniBatchWork, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerInfo:
    """One rank, started.

    Args:
        num_parameters: of the whole policy.
        description: one line for logs.
        seconds: from the call of `start` to readiness.
    """

    num_parameters: int
    description: str
    seconds: float


def rank_mini_batches(
    plan: BatchPlan, rank: int, find: Callable[[SampleSize], TrainingSample]
) -> tuple[MiniBatchWork, ...]:
    """This rank's part of a batch plan with the samples in place.

    Args:
        find: the sample that a planned size stands for.
    """
    return tuple(
        MiniBatchWork(
            micro_batches=tuple(tuple(find(size) for size in each) for each in mini_batch.micro_batches[rank]),
            num_valid_tokens=mini_batch.num_valid_tokens,
        )
        for mini_batch in plan.mini_batches
    )
