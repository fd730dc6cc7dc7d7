"""Every number that shaping or the learner emits is in the catalogue, of the kind the catalogue says.

Kinds are found by themselves: a new shaper, loss or regulariser that measures something new fails here until the
catalogue has it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from group_builders import make_group, make_prompt, make_rollout
from learner_builders import make_batch, make_work, write_tiny_policy
from plan_play import make_plan
from prompt_builders import make_factory
from run_builders import make_run

from learner.config import CorrectionConfig, KLConfig, LearnerConfig
from learner.device_use import utilization_metrics
from learner.torch_learner import torch_learner
from rollout.buffer import TakenBatch
from rollout.plans.base import MAX_MEASURED_ROUNDS
from services.idle_time import IdleCause
from services.metrics.catalogue import MetricKind
from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES, IDLE_CAUSES
from services.sync_phases import SyncPhase
from services.weight_sync import SyncResult
from shaping.components import ComponentSpec, kinds, load
from shaping.config import RewardConfig, ShapingConfig
from shaping.groups import DropReason
from shaping.histograms import Histogram
from shaping.kernels.base import SegmentRule
from shaping.metrics import EffectiveShare, Max, Mean, Metric, Spread, Sum
from shaping.pipeline import ShapingPipeline
from shaping.records import RolloutGroup

KIND_OF = {
    Mean: MetricKind.MEAN,
    EffectiveShare: MetricKind.MEAN,
    Spread: MetricKind.MEAN,
    Sum: MetricKind.SUM,
    Max: MetricKind.MAX,
    Histogram: MetricKind.HISTOGRAM,
}

BY_GPUS = {"learner_memory_{kind}_bytes"}
"""What a CPU has nothing to say of."""


def mixed_group() -> RolloutGroup:
    """One correct and two wrong rollouts that share a low-entropy run."""
    low, high = 0.01, 1.0
    entropies = [high, low, low, low, high]
    rows = [[1, 2, 3, 4, 9], [5, 2, 3, 4, 9], [6, 7, 8, 4, 9]]
    texts = [r"\boxed{5}", r"\boxed{6}", "no answer"]
    rollouts = [make_rollout(row, entropies=entropies, text=text) for row, text in zip(rows, texts, strict=True)]
    return make_group(rollouts, prompt=make_prompt(reference_answer="5"))


def shaping_metrics(config: ShapingConfig, group: RolloutGroup) -> dict[str, Metric]:
    pipeline = ShapingPipeline(config, clock=time.perf_counter, decode=lambda _: "", where="test")
    return pipeline.shape((group,)).metrics


def check_bounds(numbers: Mapping[str, object]) -> None:
    """A histogram is made with the bounds that the catalogue shows it with; no other number has bounds."""
    for name, number in numbers.items():
        entry = catalogue().find(name)
        assert entry is not None, name
        assert (entry.metric.kind is MetricKind.HISTOGRAM) == isinstance(number, Histogram), name
        if isinstance(number, Histogram):
            assert number.bounds == entry.metric.bounds, name


# They need somebody who listens, and tests: none has a verdict here, and none names a metric of its own.
WITHOUT_VERDICT = ("http", "python_tests")


def rewards_with(kind: str) -> tuple[RewardConfig, ...]:
    """The reward under test, and one that decides where it does not."""
    decides = load("shaping.rewards", ComponentSpec(kind=kind), "test").build().decides_correctness
    return (RewardConfig(kind=kind),) if decides else (RewardConfig(kind=kind), RewardConfig(kind="math_answer"))


def shaping_cases() -> list[ShapingConfig]:
    """Each kind of shaping once, otherwise defaults."""
    segments = SegmentRule(min_length=2)
    rewards = [kind for kind in kinds("shaping.rewards") if kind not in WITHOUT_VERDICT]
    cases = [ShapingConfig(segments=segments, rewards=rewards_with(kind)) for kind in rewards]
    cases += [
        ShapingConfig(segments=segments, transforms=(ComponentSpec(kind=kind),)) for kind in kinds("shaping.transforms")
    ]
    cases += [
        ShapingConfig(segments=segments, estimator=ComponentSpec(kind=kind)) for kind in kinds("shaping.estimators")
    ]
    return cases + [
        ShapingConfig(segments=segments, shapers=(ComponentSpec(kind=kind),)) for kind in kinds("shaping.shapers")
    ]


@pytest.mark.parametrize("config", shaping_cases(), ids=repr)
def test_every_number_of_shaping_is_in_the_catalogue_with_its_kind(config: ShapingConfig) -> None:
    known = catalogue()
    metrics = shaping_metrics(config, mixed_group())
    assert len(metrics) > 20
    assert known.unknown(metrics) == []
    for name, metric in metrics.items():
        entry = known.find(name)
        assert entry is not None
        assert entry.metric.kind is KIND_OF[type(metric)], name
    check_bounds(metrics)


def test_a_dropped_group_emits_known_numbers_too() -> None:
    empty = make_group([make_rollout([]), make_rollout([])])
    metrics = shaping_metrics(ShapingConfig(), empty)
    assert catalogue().unknown(metrics) == []
    reported = {name for name, metric in metrics.items() if name.startswith("groups_dropped_") and metric.value}
    assert reported == {f"groups_dropped_{DropReason.EMPTY}_count"}


def learner_cases() -> list[LearnerConfig]:
    """Each loss with every token plan, every regulariser, a KL term and each correction at once."""
    everything = LearnerConfig(
        engine="torch",
        dtype="float32",
        layout="padded",
        kl=KLConfig(coefficient=0.01),
        token_plans=tuple(ComponentSpec(kind=kind) for kind in kinds("learner.token_plans")),
        regularisers=tuple(ComponentSpec(kind=kind) for kind in kinds("learner.regularisers")),
    )
    corrections = [
        {"correction": CorrectionConfig(mode="mask")},
        {"correction": CorrectionConfig(mode="clamp"), "old_logprobs": "recompute"},
    ]
    losses = [replace(everything, loss=ComponentSpec(kind=kind)) for kind in kinds("learner.losses")]
    return losses + [replace(losses[0], **options) for options in corrections]


@pytest.fixture(scope="module")
def learner_numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What a step of each case reports, by case."""
    path = write_tiny_policy(tmp_path_factory.mktemp("policy"))
    numbers = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for config in learner_cases():
        learner = torch_learner(config, model_path=path, seed=0)
        learner.start()
        result = learner.step(make_work(make_batch(4, num_hint=2), config))
        numbers[repr(config)] = {**result.metrics, **result.histograms}
        learner.close()
    torch.set_num_threads(threads)
    return numbers


def test_every_number_of_the_learner_is_in_the_catalogue(learner_numbers: dict[str, dict[str, object]]) -> None:
    for case, numbers in learner_numbers.items():
        assert len(numbers) > 10, case
        assert catalogue().unknown(numbers) == [], case
        check_bounds(numbers)


def gpu_numbers() -> set[str]:
    """What a learner measures on a GPU whose peak is known, memory left out."""
    return set(utilization_metrics(LearnerConfig(), num_parameters=1, num_tokens=1, seconds=1.0, peak=1.0))


def orchestrator_numbers() -> dict[str, object]:
    """What the first step of a run over fake roles reports."""
    run = make_run()
    asyncio.run(run.finish())
    report = run.control.steps[0]
    return {**report.metrics, **report.histograms}


def hinted_numbers() -> dict[str, object]:
    """What the first step of such a run reports whose groups have as many rounds as are measured, with hints."""
    plan = make_plan("seele", group_size=2 * MAX_MEASURED_ROUNDS, num_rounds=MAX_MEASURED_ROUNDS)
    factory = make_factory(plan=plan, solution_steps=("1", "2", "3"))
    run = make_run(groups_per_step=1, num_steps=1, factory=factory)
    asyncio.run(run.finish())
    report = run.control.steps[0]
    return {**report.metrics, **report.histograms}


def surplus_numbers() -> dict[str, float]:
    """What a step adds whose batch held a group that an earlier step had left over."""
    batch = TakenBatch(ordinals=(0,), items=("a",), dropped=Counter(), num_kept=2, is_short=False, num_surplus=1)
    return batch.surplus_metrics([1])


def test_every_number_of_a_step_report_is_in_the_catalogue() -> None:
    numbers = {**orchestrator_numbers(), **hinted_numbers(), **surplus_numbers()}
    assert catalogue().unknown(numbers) == []
    check_bounds(numbers)


def test_the_causes_of_idle_workers_are_those_of_the_catalogue() -> None:
    assert set(IdleCause) == set(IDLE_CAUSES)


def sync_numbers() -> dict[str, float]:
    """What a weight sync that went through every phase reports."""
    result = SyncResult(
        manifest=None,
        live=(),
        left_out=(),
        phase_seconds=dict.fromkeys(set(SyncPhase) - {SyncPhase.IDLE}, 1.0),
        aborts=(),
        num_mismatches=0,
        num_bytes=0,
        canary_difference_nats=0.0,
    )
    return result.metrics()


def test_every_number_of_a_weight_sync_is_in_the_catalogue() -> None:
    assert catalogue().unknown(sync_numbers()) == []


def test_every_metric_of_the_catalogue_is_emitted_by_somebody(learner_numbers: dict[str, dict[str, object]]) -> None:
    known = catalogue()
    names = {name for numbers in learner_numbers.values() for name in numbers} | set(sync_numbers())
    names |= gpu_numbers() | set(orchestrator_numbers()) | set(hinted_numbers()) | set(surplus_numbers())
    for config in shaping_cases():
        names |= set(shaping_metrics(config, mixed_group()))
    emitted = {entry.metric.name for entry in map(known.find, names) if entry is not None}
    assert {metric.name for metric in known.metrics} == emitted | BY_GPUS


def test_the_contract_sees_an_unknown_name() -> None:
    assert catalogue().unknown(["reward_total_value", "learner_no_such_value", "reward_x"]) == [
        "learner_no_such_value",
        "reward_x",
    ]


def test_no_plug_in_is_called_as_a_number_that_is_there_already() -> None:
    assert "total" not in kinds("shaping.rewards"), "reward_total_value is the weighted sum"
    assert not {"policy", "kl", "drift"} & set(kinds("learner.regularisers")), "learner_<term>_loss has these"


def test_names_are_unique_and_so_are_the_prometheus_families() -> None:
    metrics = catalogue().metrics
    families = [metric.family for metric in metrics] + [family.name for family in FAMILIES]
    assert len(set(families)) == len(families)


def test_every_metric_has_words_and_a_formula() -> None:
    for metric in catalogue().metrics:
        assert metric.help and metric.formula, metric.name
        assert metric.name.split("_")[0] in {
            *("reward", "rollout", "verdict", "groups", "segments", "shaping", "advantage", "less", "learner"),
            *("weight", "queue", "hint", "admission", "dot"),
        }
