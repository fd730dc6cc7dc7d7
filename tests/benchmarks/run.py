"""`make bench`: what the hot paths cost beside their floor, as ratios measured in one run.

Each row runs two functions in turn, A B A B, and shows the median of the pairwise ratios: absolute times on a shared
machine say little.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from learner.batch_plan import SampleSize, plan_batch
from learner.logprobs import token_logprobs_and_entropies
from shaping.checks import FloatArray, IntArray
from shaping.less import multipliers

NUM_PAIRS = 7
PHRASES = 40


def synthetic_group(length: int, *, seed: int, group_size: int = 8) -> tuple[list[IntArray], list[FloatArray]]:
    """Responses out of a pool of phrases (low entropy inside) joined by single tokens (high entropy)."""
    rng = np.random.default_rng(seed)
    pool = [rng.integers(0, 3000, rng.integers(3, 30)) for _ in range(PHRASES)]
    responses, entropies = [], []
    for _ in range(group_size):
        tokens: list[np.ndarray] = []
        nats: list[np.ndarray] = []
        while sum(map(len, tokens)) < length:
            phrase = pool[rng.integers(PHRASES)]
            tokens += [phrase, rng.integers(0, 3000, 1)]
            nats += [rng.random(len(phrase)) * 0.2, 0.5 + rng.random(1)]
        responses.append(np.concatenate(tokens)[:length].astype(np.int32))
        entropies.append(np.concatenate(nats)[:length].astype(np.float32))
    return responses, entropies


def compare(name: str, ours: Callable[[], object], floor: Callable[[], object]) -> str:
    """One row: median seconds of ours, and the median ratio to the floor."""
    ours()
    floor()
    seconds, ratios = [], []
    for _ in range(NUM_PAIRS):
        first, second = _seconds(ours), _seconds(floor)
        seconds.append(first)
        ratios.append(first / second)
    return f"{name:74} {median(seconds) * 1e3:10.2f} ms {median(ratios):10.2f} x"


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shaping_row(length: int) -> str:
    responses, entropies = synthetic_group(length, seed=length)
    correct = np.arange(8) % 2 == 0

    def floor() -> None:
        for row in entropies:
            np.partition(row, (8 * len(row) + 5) // 10)
            row.sum()

    return compare(
        f"LESS of 8 x {length} tokens / numpy partition and one pass",
        lambda: multipliers(responses, entropies, correct),
        floor,
    )


def scoring_row(vocab_size: int, num_tokens: int, *, with_gradient: bool) -> str:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_tokens, 64, generator=generator, requires_grad=with_gradient)
    weight = torch.randn(vocab_size, 64, generator=generator, requires_grad=with_gradient)
    targets = torch.randint(vocab_size, (num_tokens,), generator=generator)

    def chunked() -> None:
        logprobs, entropies = token_logprobs_and_entropies(
            hidden, weight, targets, temperature=1.0, entropy_temperature=1.0, chunk_tokens=128
        )
        if with_gradient:
            (logprobs.sum() + entropies.sum()).backward()

    def naive() -> None:
        log_p = torch.log_softmax(hidden @ weight.T, dim=1)
        entropies = -(log_p.exp() * log_p).sum(1)
        if with_gradient:
            (log_p.gather(1, targets[:, None]).sum() + entropies.sum()).backward()

    what = "forward and backward" if with_gradient else "forward"
    return compare(f"chunked log-prob and entropy, V {vocab_size}, {what} / naive [T, V]", chunked, naive)


def planning_row(num_groups: int) -> str:
    rng = np.random.default_rng(0)
    lengths = rng.integers(100, 3000, num_groups * 8)
    sizes = [
        SampleSize(group_index=i // 8, sample_index=i % 8, num_tokens=int(n), num_valid_tokens=int(n) - 50)
        for i, n in enumerate(lengths)
    ]
    return compare(
        f"plan of {num_groups} groups x 8 on 8 ranks / sorting them",
        lambda: plan_batch(
            sizes,
            num_ranks=8,
            mini_batch_groups=32,
            num_epochs=1,
            micro_batch_tokens=16384,
            layout="packed",
            seed=0,
        ),
        lambda: sorted(sizes, key=lambda size: size.num_tokens),
    )


def main() -> None:
    torch.set_num_threads(1)
    sys.stdout.write(f"{'ours / floor':74} {'median':>13} {'ratio':>12}\n")
    for row in (
        lambda: shaping_row(64),
        lambda: shaping_row(1024),
        lambda: scoring_row(1024, 1024, with_gradient=True),
        lambda: scoring_row(32_000, 512, with_gradient=False),
        lambda: scoring_row(32_000, 512, with_gradient=True),
        lambda: planning_row(512),
    ):
        sys.stdout.write(row() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
