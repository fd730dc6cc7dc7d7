"""Every benchmark gives its figures, on inputs too small to mean anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from learner.batch_plan import BatchPlan, MiniBatchPlan, SampleSize
from tests.benchmarks import admission, learner, planning, shaping
from tests.benchmarks.less_groups import REGIMES, make_batch
from tests.benchmarks.worst_groups import WORST_GROUPS

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    *("containment_seconds", "compat_seconds", "floor_seconds", "containment_over_floor", "compat_over_floor"),
    *("containment_tokens_per_second", "compat_tokens_per_second", "peak_memory_mb", "containment_extra_memory_mb"),
    *("numpy_seconds", "numpy_compat_seconds", "worst_group_ms", "double_length_ratio", "worst_double_length_ratio"),
    *("pipeline_seconds_per_group", "warm_up_cold_seconds", "warm_up_cached_seconds", "num_groups", "cpu_share"),
    *("compat_extra_memory_mb", "containment_wall_seconds", "compat_wall_seconds"),
}


def test_the_batch_and_the_fallback_are_timed() -> None:
    groups = make_batch(2, REGIMES["typical"], 64)
    found = shaping.measure_batch(groups, num_rounds=1) | shaping.measure_numpy(groups)
    assert found.keys() < FIGURES
    assert all(value >= 0 for value in found.values())
    assert found["containment_tokens_per_second"] == pytest.approx(2 * 8 * 64 / found["containment_seconds"])


def test_regimes_have_a_row_per_length_and_a_ratio_where_the_half_was_timed() -> None:
    tables = shaping.measure_regimes(lengths=(16, 32, 48), num_groups=1, num_rounds=1)
    assert [(row["regime"], row["tokens"]) for row in tables["regimes"]] == [
        (name, length) for name in REGIMES for length in (16, 32, 48)
    ]
    assert [(row["regime"], row["tokens"]) for row in tables["double_length"]] == [(name, 32) for name in REGIMES]
    first = tables["regimes"][0]
    # 1 ms is 10^6 ns, spread over 8 responses of 16 tokens.
    assert first["compat_ns_per_token"] == pytest.approx(float(first["compat_ms"]) * 1e6 / (8 * 16))


def test_contrived_groups_have_a_row_each() -> None:
    rows = shaping.measure_worst(num_tokens=64, num_rounds=1)
    assert [row["group"] for row in rows] == list(WORST_GROUPS)
    assert shaping.largest(rows, "_ms") == max(max(row["containment_ms"], row["compat_ms"]) for row in rows)


def test_the_floor_partitions_and_passes_over_everything() -> None:
    groups = make_batch(2, REGIMES["typical"], 64)
    before = [row.copy() for _, entropies, _ in groups for row in entropies]
    shaping.make_floor(groups)()
    assert all((a == b).all() for a, b in zip(before, (r for _, rows, _ in groups for r in rows), strict=True))


def test_the_pipeline_is_timed_on_groups_it_trains() -> None:
    assert shaping.measure_pipeline(num_tokens=64, num_rounds=1)["pipeline_seconds_per_group"] > 0


def test_tiles_and_naive_are_compared_on_the_same_numbers() -> None:
    case = learner.Case(vocab_size=50, num_tokens=40, hidden_size=8, num_rounds=1)
    found, wanted = (learner.make_call(scores, case)() for scores in (learner.tiled, learner.naive))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    row = learner.compare("_32k_wide", case)
    assert row["case"] == "v50_wide"
    assert float(row["time_ratio"]) > 0
    assert max(float(each["gradient_error"]) for each in learner.measure_errors(case)) < 1e-5


def test_waste_is_what_ranks_wait_for() -> None:
    # 30 tokens for one rank and 10 for the other: 20 of 60 are waited away
    sizes = [
        SampleSize(group_index=0, sample_index=i, num_tokens=n, num_valid_tokens=1) for i, n in enumerate([30, 10])
    ]
    update = MiniBatchPlan(micro_batches=(((sizes[0],),), ((sizes[1],),)), num_valid_tokens=2)
    assert learner.waste_of(BatchPlan(mini_batches=(update,))) == pytest.approx(1 / 3)
    rows = learner.measure_packing(8)
    assert [(row["ranks"], row["micro_batch_tokens"]) for row in rows[:3]] == [(1, 16_384), (1, 32_768), (2, 16_384)]
    assert rows[0]["waste_share"] == 0


def test_planning_gives_figures() -> None:
    figures = planning.measure(32, core=None, num_rounds=1).figures
    assert figures.keys() == {"num_groups", "plan_seconds", "sort_seconds", "plan_over_sort"}


def test_admission_gives_figures_of_cost_and_of_efficiency() -> None:
    figures, rows = admission.measure_cost(((1, 4), (2, 4)), num_rounds=1)
    assert figures["orchestrator_flatness"] == pytest.approx(
        figures["orchestrator_us_per_group"] / figures["orchestrator_us_per_group_1"]
    )
    assert [row["workers"] for row in rows] == [1, 2]
    figures, rows = admission.measure_efficiency(num_workers=1, num_steps=5)
    assert figures["staleness_max"] <= figures["max_staleness"] == 2
    assert len(rows) == 4 * len(admission.REGIMES)
    assert all(0 < float(row["efficiency"]) < 1.2 for row in rows)


@pytest.mark.slow
def test_the_shaping_benchmark_prints_all_its_figures_as_json() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.shaping", "--json", "--groups", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["figures"].keys() == FIGURES
    assert found["figures"]["num_groups"] == 2
    assert found["rows"].keys() == {"regimes", "double_length", "worst_groups"}
