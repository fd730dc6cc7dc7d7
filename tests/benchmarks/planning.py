"""The plan of a batch beside sorting its samples once: python -m tests.benchmarks.planning [--json]

Both in turn on one core, CPU seconds; `plan_over_sort` is the median of the pairwise ratios.
"""

import numpy as np

from learner.batch_plan import SampleSize, plan_batch
from tests.benchmarks.report import Report, make_parser, write_report
from tests.benchmarks.timing import time_in_turn, use_one_core

NUM_GROUPS, GROUP_SIZE = 512, 8
NUM_PROMPT_TOKENS = 50
NUM_RANKS = 8
ROUNDS = 7


def make_sizes(num_groups: int) -> list[SampleSize]:
    """Samples of 100 to 3000 tokens."""
    lengths = np.random.default_rng(0).integers(100, 3000, num_groups * GROUP_SIZE).tolist()
    return [
        SampleSize(
            group_index=index // GROUP_SIZE,
            sample_index=index % GROUP_SIZE,
            num_tokens=length,
            num_valid_tokens=length - NUM_PROMPT_TOKENS,
        )
        for index, length in enumerate(lengths)
    ]


def measure(num_groups: int, *, core: int | None, num_rounds: int = ROUNDS) -> Report:
    sizes = make_sizes(num_groups)
    timings = time_in_turn(
        {
            "plan": lambda: plan_batch(
                sizes,
                num_ranks=NUM_RANKS,
                mini_batch_groups=32,
                num_epochs=1,
                micro_batch_tokens=16384,
                layout="packed",
                seed=0,
            ),
            "sort": lambda: sorted(sizes, key=lambda size: size.num_tokens),
        },
        num_rounds=num_rounds,
    )
    figures = {
        "num_groups": num_groups,
        "plan_seconds": timings["plan"].seconds,
        "sort_seconds": timings["sort"].seconds,
        "plan_over_sort": timings["plan"].over(timings["sort"]),
    }
    return Report(benchmark="planning", core=core, figures=figures)


def main() -> None:
    options = make_parser(__doc__ or "").parse_args()
    write_report(measure(NUM_GROUPS, core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
