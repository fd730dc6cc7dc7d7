"""What LESS costs on one core: python -m tests.benchmarks.shaping [--json] [--groups N]

The batch is one training step of the LESS authors: 512 groups x 8 responses x 3072 tokens of the `typical` regime, all
groups different. Timed in turn, medians of CPU seconds (`cpu_share` is CPU over wall time):

containment  `batch_analyze` of the batch: multipliers, segments and counters
compat       `batch_multipliers` of the batch in mode "compat"
floor        for each response: copy the entropies into one buffer, `ndarray.partition` it in place at the order
             statistic of the rule, and add the entropies' bits to the token ids into a reused output of the batch's
             size (reads both inputs, writes as much as multipliers take); it allocates nothing

`numpy_*` is the same with backend "numpy", the whole batch once. `worst_group_ms` is the slowest contrived group of
8 x 3072 tokens in either mode, each a median; `double_length_ratio` the largest time at 3072 over time at 1536 tokens
of any regime and mode, `worst_double_length_ratio` of any contrived group. `warm_up_*_seconds` is import and `warm_up`
of the kernels of both modes in a fresh process, with an empty and with a filled cache. Memory is resident: of the
process with the batch (peak), and of the call and its result alone (extra).
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from shaping.config import RewardConfig, ShapingConfig
from shaping.less import LessOptions, batch_analyze, batch_multipliers
from shaping.pipeline import ShapingPipeline
from shaping.records import EntropySource, Message, Prompt, Rollout, RolloutGroup, StopReason, VersionSpan
from tests.benchmarks.less_groups import REGIMES, Group, make_batch, make_group, num_tokens_of
from tests.benchmarks.report import Report, Row, make_parser, write_report
from tests.benchmarks.timing import Call, Timing, measure_memory, time_in_turn, use_one_core
from tests.benchmarks.worst_groups import WORST_GROUPS

ROOT = Path(__file__).resolve().parents[2]
NUM_GROUPS, MAX_TOKENS, GROUP_SIZE = 512, 3072, 8
LENGTHS = (256, 512, 1024, 1536, 2048, 3072)
BATCH_ROUNDS, ROUNDS = 11, 7
GROUPS_PER_ROW = 16
NUM_PIPELINE_GROUPS = 4
MS, NS = 1e3, 1e9

WARM_UP = """
import time
import numpy
began = time.process_time()
from shaping.less import LessOptions, warm_up
warm_up(LessOptions(mode="compat"))
print(time.process_time() - began)
"""


def run_containment(groups: list[Group], *, backend: str = "auto") -> object:
    return batch_analyze(groups, LessOptions(backend=backend))


def run_compat(groups: list[Group], *, backend: str = "auto") -> object:
    return batch_multipliers(groups, LessOptions(mode="compat", backend=backend))


MODES: dict[str, Callable[[list[Group]], object]] = {"containment": run_containment, "compat": run_compat}


def make_floor(groups: list[Group]) -> Call:
    """The floor of these groups, see above."""
    longest = max(len(row) for responses, _, _ in groups for row in responses)
    buffer, output = np.empty(longest, np.float32), np.zeros(num_tokens_of(groups), np.int32)

    def floor() -> None:
        start = 0
        for responses, entropies, _ in groups:
            for tokens, nats in zip(responses, entropies, strict=True):
                size = len(nats)
                row = buffer[:size]
                row[:] = nats
                row.partition(min((8 * size + 5) // 10, size - 1))
                np.add(tokens, nats.view(np.int32), out=output[start : start + size])
                start += size

    return floor


def measure_batch(groups: list[Group], *, num_rounds: int) -> dict[str, float]:
    """Figures of the whole batch."""
    calls: dict[str, Call] = {mode: partial(run, groups) for mode, run in MODES.items()}
    for run in MODES.values():
        run(groups[:1])  # Loads the kernels: their code is no memory of the batch.
    memory = {mode: measure_memory(call) for mode, call in calls.items()}
    timings = time_in_turn({**calls, "floor": make_floor(groups)}, num_rounds=num_rounds)
    figures = {"floor_seconds": timings["floor"].seconds}
    for mode in MODES:
        figures |= {
            f"{mode}_seconds": timings[mode].seconds,
            f"{mode}_wall_seconds": median(timings[mode].wall_seconds),
            f"{mode}_over_floor": timings[mode].over(timings["floor"]),
            f"{mode}_tokens_per_second": num_tokens_of(groups) / timings[mode].seconds,
            f"{mode}_extra_memory_mb": memory[mode].extra_mb,
        }
    return figures | {
        "peak_memory_mb": max(each.peak_mb for each in memory.values()),
        "cpu_share": min(timings[mode].cpu_share for mode in MODES),
    }


def measure_numpy(groups: list[Group]) -> dict[str, float]:
    """The fallback on the same batch, once."""
    calls = {"numpy_seconds": run_containment, "numpy_compat_seconds": run_compat}
    timings = time_in_turn(
        {name: partial(run, groups, backend="numpy") for name, run in calls.items()}, num_rounds=1, num_warm_ups=0
    )
    return {name: timing.seconds for name, timing in timings.items()}


def measure_regimes(*, lengths: Sequence[int], num_groups: int, num_rounds: int) -> dict[str, list[Row]]:
    """Tables: one row per regime and length with the time of one group, and what double length costs."""
    regimes: list[Row] = []
    doubling: list[Row] = []
    for name, regime in REGIMES.items():
        batches = {length: make_batch(num_groups, regime, length) for length in lengths}
        calls = {(mode, n): partial(run, batch) for n, batch in batches.items() for mode, run in MODES.items()}
        timings = time_in_turn(calls, num_rounds=num_rounds)
        for length in lengths:
            row: Row = {"regime": name, "tokens": length}
            for mode in MODES:
                seconds = timings[mode, length].seconds / num_groups
                row[f"{mode}_ms"] = seconds * MS
                row[f"{mode}_ns_per_token"] = seconds * NS / (GROUP_SIZE * length)
            regimes.append(row)
        doubling += [
            {"regime": name, "tokens": length} | _double_length(timings, length)
            for length in lengths
            if length // 2 in lengths
        ]
    return {"regimes": regimes, "double_length": doubling}


def measure_worst(*, num_tokens: int, num_rounds: int) -> list[Row]:
    """One row per contrived group: its time, and that over the time at half its length."""
    rows: list[Row] = []
    for name, make in WORST_GROUPS.items():
        lengths = (num_tokens // 2, num_tokens)
        calls = {(mode, n): partial(run, [make(n)]) for n in lengths for mode, run in MODES.items()}
        timings = time_in_turn(calls, num_rounds=num_rounds)
        row: Row = {"group": name} | {f"{mode}_ms": timings[mode, num_tokens].seconds * MS for mode in MODES}
        rows.append(row | _double_length(timings, num_tokens))
    return rows


def _double_length(timings: Mapping[tuple[str, int], Timing], length: int) -> Row:
    return {f"{mode}_ratio": timings[mode, length].over(timings[mode, length // 2]) for mode in MODES}


def measure_warm_up() -> dict[str, float]:
    """CPU seconds until a fresh process can shape."""
    with tempfile.TemporaryDirectory() as cache:
        seconds = [_warm_up_once(cache) for _ in ("cold", "cached")]
    return {"warm_up_cold_seconds": seconds[0], "warm_up_cached_seconds": seconds[1]}


def _warm_up_once(cache: str) -> float:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", WARM_UP], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


def measure_pipeline(*, num_tokens: int, num_rounds: int) -> dict[str, float]:
    """`ShapingPipeline.shape` with default settings and a reward that costs nothing."""
    pipeline = ShapingPipeline(ShapingConfig(rewards=(RewardConfig(kind="exact_match"),)))
    groups = [
        to_rollouts(make_group(REGIMES["typical"], num_tokens, seed=seed), f"g{seed}")
        for seed in range(NUM_PIPELINE_GROUPS)
    ]
    calls = {group.group_id: partial(pipeline.shape, (group,)) for group in groups}
    timings = time_in_turn(calls, num_rounds=num_rounds)
    return {"pipeline_seconds_per_group": sum(timing.seconds for timing in timings.values()) / len(groups)}


def to_rollouts(group: Group, group_id: str) -> RolloutGroup:
    """The group as a rollout worker would send it; a correct response reads "1"."""
    rollouts = [
        Rollout(
            hint_ids=np.zeros(0, np.int32),
            response_ids=tokens,
            response_text=str(int(is_correct)),
            behavior_logprobs=np.full(len(tokens), -0.5, np.float32),
            entropies=nats,
            entropy_source=EntropySource.RAW,
            stop_reason=StopReason.LENGTH,
            version_spans=(VersionSpan(start=0, stop=len(tokens), policy_version=0),),
        )
        for tokens, nats, is_correct in zip(*group, strict=True)
    ]
    prompt = Prompt(
        prompt_id=group_id, messages=(Message(role="user", content="0 or 1?"),), reference_answer="1", position=0
    )
    return RolloutGroup(
        group_id=group_id,
        prompt=prompt,
        prompt_ids=np.zeros(1, np.int32),
        rollouts=tuple(rollouts),
        vocab_size=2**17,
    )


def largest(rows: list[Row], ending: str) -> float:
    """Over all rows and the columns whose names end so."""
    return max(float(value) for row in rows for name, value in row.items() if name.endswith(ending))


def measure(num_groups: int, *, core: int | None) -> Report:
    batch = make_batch(num_groups, REGIMES["typical"], MAX_TOKENS)
    figures = {"num_groups": num_groups, **measure_batch(batch, num_rounds=BATCH_ROUNDS), **measure_numpy(batch)}
    tables = measure_regimes(lengths=LENGTHS, num_groups=min(GROUPS_PER_ROW, num_groups), num_rounds=ROUNDS)
    worst = measure_worst(num_tokens=MAX_TOKENS, num_rounds=ROUNDS)
    full_length = [row for row in tables["double_length"] if row["tokens"] == MAX_TOKENS]
    figures |= {
        "worst_group_ms": largest(worst, "_ms"),
        "double_length_ratio": largest(full_length, "_ratio"),
        "worst_double_length_ratio": largest(worst, "_ratio"),
        **measure_pipeline(num_tokens=MAX_TOKENS, num_rounds=ROUNDS),
        **measure_warm_up(),
    }
    return Report(benchmark="shaping", core=core, figures=figures, rows={**tables, "worst_groups": worst})


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--groups", type=int, default=NUM_GROUPS, help="size of the batch, for a quick look")
    options = parser.parse_args()
    write_report(measure(options.groups, core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
