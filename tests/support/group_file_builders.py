"""Shaped groups as they wait for the learner, with numbers that need all their bits."""

import numpy as np

from learner.batch_plan import SampleSize
from services.group_files import SavedGroup
from services.ports import ShapedSummary
from shaping.metrics import Max, Mean, Metric, Sum
from shaping.records import TokenSource
from shaping.training import TrainingSample

METRICS: dict[str, Metric] = {
    "mean": Mean(0.1, 3.0),
    "of_nothing": Mean(0.0, 0.0),
    "sum": Sum(2.0),
    "max": Max(float("-inf")),
}


def make_sample(group_id: str, index: int, rng: np.random.Generator) -> TrainingSample:
    """Prompt, hint and response of random lengths; the response may be empty, a prompt may not."""
    counts = (int(rng.integers(1, 30)), int(rng.integers(0, 5)), int(rng.integers(0, 60)))
    sources = np.repeat(np.array(list(TokenSource), np.uint8), counts)
    size = len(sources)
    # Every float32 that is finite, the subnormal ones and -0 included.
    advantages = rng.integers(0, 2**32, size, dtype=np.uint32).view(np.float32).copy()
    advantages[~np.isfinite(advantages)] = np.float32(-0.0)
    return TrainingSample(
        group_id=group_id,
        rollout_index=index + 3,
        token_ids=rng.integers(0, 2**31, size).astype(np.int32),
        loss_mask=(sources == TokenSource.GENERATED) & (rng.random(size) < 0.9),
        behavior_logprobs=-rng.exponential(1.0, size).astype(np.float32),
        advantages=advantages,
        entropies=rng.exponential(1.0, size).astype(np.float32),
        token_sources=sources,
        min_policy_version=int(rng.integers(0, 2**40)),
        hint_copies=int(rng.integers(1, 9)),
    )


def make_saved_groups(num_groups: int = 3, *, seed: int = 0) -> tuple[SavedGroup, ...]:
    """Groups of 1, 2, 3 ... samples."""
    rng, groups = np.random.default_rng(seed), []
    for number in range(num_groups):
        group_id = f"g{number:08d}"
        samples = tuple(make_sample(group_id, index, rng) for index in range(number + 1))
        sizes = tuple(
            SampleSize(
                group_index=0,
                sample_index=index,
                num_tokens=each.num_tokens,
                num_valid_tokens=each.num_valid_tokens,
            )
            for index, each in enumerate(samples)
        )
        summary = ShapedSummary(
            group_id=group_id,
            samples=sizes,
            drop=None,
            metrics=dict(METRICS),
            num_correct=number,
            num_scored=number + 1,
            min_policy_version=number,
        )
        groups.append((summary, samples))
    return tuple(groups)
