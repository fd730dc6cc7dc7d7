"""Laws of every kind of every folder of shaping. The files are found by themselves: a new one is tested unseen."""

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from group_builders import make_group, make_request, make_rollout, make_scored, make_segmented

from shaping.components import Component, ComponentSpec, declared_conflicts, kinds, load
from shaping.config import RewardConfig, ShapingConfig
from shaping.errors import RecipeError
from shaping.estimators.base import AdvantageEstimator
from shaping.groups import Drop, ScoredGroup
from shaping.kernels.base import SegmentRule
from shaping.pipeline import DroppedGroup, ShapingPipeline
from shaping.records import RolloutGroup, StopReason
from shaping.rewards.base import BatchReward, KnownVerdict, Reward, RewardRequest, RewardResult
from shaping.shapers.base import Shaper
from shaping.signals import Signal
from shaping.transforms.base import Cut, GroupTransform

FOLDERS = ("rewards", "transforms", "estimators", "shapers", "schedules", "memories")
ELSEWHERE = ("rollout.plans", "learner.losses", "learner.token_plans", "learner.regularisers")
EVERY_FOLDER = (*(f"shaping.{folder}" for folder in FOLDERS), *ELSEWHERE)
ALL_KINDS = [(folder, kind) for folder in FOLDERS for kind in kinds(f"shaping.{folder}")]
TEXTS = ["", "5", r"\boxed{5}", r"\boxed{6}", r"\boxed{", "x" * 5000, "\x00\ud7ff", "#### 5", "[" * 3000]


# What has no default: nothing listens on port 1, and one refused connection is enough.
REQUIRED = {"http": {"url": "http://127.0.0.1:1", "max_retries": 0}}


def load_default(folder: str, kind: str) -> Component:
    return load(f"shaping.{folder}", ComponentSpec(kind=kind, options=REQUIRED.get(kind, {})), "test")


def of(folder: str) -> list[str]:
    return kinds(f"shaping.{folder}")


def make_mixed_group() -> ScoredGroup:
    """Five rollouts of unequal lengths, one of them empty, three correct; token 9 is a fork."""
    ids = [[1, 2, 9, 3, 4, 9], [1, 2, 9, 5, 6, 9, 7], [3, 4, 9, 1, 2], [], [7, 7, 9, 7, 7]]
    rollouts = [
        make_rollout(row, entropies=[1.0 if token == 9 else 0.01 * token for token in row], policy_version=2)
        for row in ids
    ]
    return make_scored([True, True, False, False, True], rewards=[1.0, 0.7, 0.0, 0.2, 1.0], rollouts=rollouts)


def permuted(scored: ScoredGroup, order: list[int]) -> ScoredGroup:
    return ScoredGroup(
        group=dataclasses.replace(scored.group, rollouts=tuple(scored.group.rollouts[i] for i in order)),
        rewards=scored.rewards[order],
        reward_parts={name: part[order] for name, part in scored.reward_parts.items()},
        verdicts=tuple(scored.verdicts[i] for i in order),
    )


def frozen(record: Any) -> bytes:
    return pickle.dumps(record)


def test_every_folder_has_a_kind() -> None:
    assert all(of(folder) for folder in FOLDERS)


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_every_kind_builds_from_its_defaults_and_says_what_it_is(folder: str, kind: str) -> None:
    component = load_default(folder, kind)
    assert (component.module.__doc__ or "").startswith(f"{kind}: ")
    assert dataclasses.is_dataclass(component.config)
    assert all(isinstance(need, Signal) for need in component.needs)
    assert component.build() is not None
    assert pickle.loads(pickle.dumps(component.config)) == component.config


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_every_kind_refuses_an_option_it_does_not_have(folder: str, kind: str) -> None:
    names = [field.name for field in dataclasses.fields(load_default(folder, kind).config)]
    wrong = f"{names[0]}x" if names else "optionx"
    hint = f"did you mean '{names[0]}'" if names else "known: none"
    with pytest.raises(RecipeError, match=f"unknown option '{wrong}'; {hint}"):
        load(f"shaping.{folder}", ComponentSpec(kind=kind, options={wrong: 1}), "test")


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_a_kind_contradicts_kinds_that_exist(folder: str, kind: str) -> None:
    declared = declared_conflicts(f"shaping.{folder}", kind)
    assert declared == getattr(load_default(folder, kind).module, "CONFLICTS", {})
    assert declared.keys() <= {name for each in EVERY_FOLDER for name in kinds(each)}


# -- rewards


def results_of(reward: Reward | BatchReward, requests: list[RewardRequest]) -> list[RewardResult]:
    """What a reward says, whether it is asked one by one or for a batch."""
    if hasattr(reward, "score_batch"):
        return list(reward.score_batch(requests))
    return [reward.score(request) for request in requests]


@pytest.mark.parametrize("kind", of("rewards"))
@pytest.mark.parametrize("reference", ["5", "no number", r"\frac{1}{2}"])
def test_a_reward_never_raises_and_its_value_is_finite(kind: str, reference: str) -> None:
    reward = load_default("rewards", kind).build()
    results = results_of(reward, [make_request(text, reference_answer=reference) for text in TEXTS])
    assert len(results) == len(TEXTS)
    for result in results:
        assert math.isfinite(result.value)
        assert result.verdict.detail.isprintable()
        assert result.verdict.detail or result.verdict.is_decided


@pytest.mark.parametrize("kind", of("rewards"))
def test_a_reward_says_whether_it_decides(kind: str) -> None:
    assert isinstance(load_default("rewards", kind).build().decides_correctness, bool)


@pytest.mark.parametrize("kind", of("rewards"))
def test_a_reward_judges_its_known_answers_and_pays_the_correct_ones_more(kind: str) -> None:
    component = load_default("rewards", kind)
    if not hasattr(component.module, "known_verdicts"):
        assert not component.build().decides_correctness
        return
    known: tuple[KnownVerdict, ...] = component.module.known_verdicts(component.config)
    requests = [make_request(each.response_text, reference_answer=each.reference_answer) for each in known]
    results = results_of(component.build(), requests)
    assert [result.verdict.status for result in results] == [each.status for each in known]
    paid = [result.value for result in results if result.verdict.correct]
    unpaid = [result.value for result in results if not result.verdict.correct]
    assert not known or min(paid) > max(unpaid)


# -- transforms


@pytest.mark.parametrize("kind", of("transforms"))
@pytest.mark.parametrize("rewards", [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("stop_reason", [StopReason.EOS, StopReason.LENGTH])
def test_a_transform_keeps_or_drops_with_a_reason(kind: str, rewards: list[float], stop_reason: StopReason) -> None:
    rollouts = [make_rollout(stop_reason=stop_reason) for _ in rewards]
    scored = make_scored([reward > 0.5 for reward in rewards], rewards=rewards, rollouts=rollouts)
    before = frozen(scored)
    transform = load_default("transforms", kind).build()
    result = transform.transform(scored)
    assert isinstance(result, ScoredGroup | Cut) or (isinstance(result, Drop) and result.detail)
    assert frozen(scored) == before
    again = transform.transform(permuted(scored, [2, 0, 1]))
    assert type(again) is type(result)


@pytest.mark.parametrize("kind", of("transforms"))
@pytest.mark.parametrize("recalled", [{}, {"hapo_tokens": 4.0, "hapo_num_correct": 1.0}])
def test_what_a_transform_does_to_a_rollout_does_not_hang_on_its_place(kind: str, recalled: dict[str, float]) -> None:
    scored, order = make_mixed_group(), [4, 2, 0, 3, 1]
    scored = dataclasses.replace(scored, group=dataclasses.replace(scored.group, recalled=recalled))
    transform = load_default("transforms", kind).build()
    assert outcome_by_rollout(transform, scored) == outcome_by_rollout(transform, permuted(scored, order))


@pytest.mark.parametrize("kind", of("transforms"))
def test_who_cuts_needs_the_text_of_tokens_and_says_how_much_was_cut(kind: str) -> None:
    component, scored = load_default("transforms", kind), make_mixed_group()
    result = component.build().transform(scored)
    if isinstance(result, Cut):
        assert Signal.TOKEN_TEXT in component.needs
        assert len(result.lengths) == scored.group.group_size
        assert all(name.startswith(f"{kind}_") for name in result.metrics)


def outcome_by_rollout(transform: GroupTransform, scored: ScoredGroup) -> object:
    """What became of each rollout of a group, whatever their order."""
    result = transform.transform(scored)
    match result:
        case ScoredGroup():
            parts = zip(*result.reward_parts.values(), strict=True)
            rows = zip(map(id, result.group.rollouts), result.rewards.tolist(), parts, strict=True)
            return {name: (reward, part) for name, reward, part in rows}, dict(result.remembered)
        case Cut():
            return dict(zip(map(id, scored.group.rollouts), result.lengths, strict=True))
    return result


# -- estimators


@pytest.mark.parametrize("kind", of("estimators"))
def test_advantages_are_finite_float32_rows_of_the_responses(kind: str) -> None:
    scored = make_mixed_group()
    before = frozen(scored)
    estimator: AdvantageEstimator = load_default("estimators", kind).build()
    rows = estimator.advantages(scored)
    assert [row.shape for row in rows] == [(rollout.num_tokens,) for rollout in scored.group.rollouts]
    assert all(row.dtype == np.float32 and np.isfinite(row).all() for row in rows)
    assert frozen(scored) == before


@pytest.mark.parametrize("kind", of("estimators"))
def test_advantages_follow_their_rollouts(kind: str) -> None:
    scored, order = make_mixed_group(), [4, 2, 0, 3, 1]
    estimator: AdvantageEstimator = load_default("estimators", kind).build()
    rows = estimator.advantages(scored)
    for row, source in zip(estimator.advantages(permuted(scored, order)), order, strict=True):
        np.testing.assert_allclose(row, rows[source], rtol=1e-6)


@pytest.mark.parametrize("kind", of("estimators"))
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_zero_variance_group_gives_zero_advantage_unless_its_file_says_otherwise(kind: str, reward: float) -> None:
    if not has_signal_in_equal_groups(kind):
        assert not has_signal(kind, make_scored([True] * 7, rewards=[reward] * 7))
        assert not has_signal(kind, make_scored([False] * 7, rewards=[reward] * 7))


@pytest.mark.parametrize("kind", of("estimators"))
def test_who_says_that_equal_groups_have_a_signal_gives_one_to_a_group_that_is_all_wrong(kind: str) -> None:
    assert has_signal(kind, make_scored([False] * 7)) is has_signal_in_equal_groups(kind)


@pytest.mark.parametrize("kind", of("estimators"))
def test_who_has_a_signal_in_equal_groups_does_not_run_with_what_drops_them(kind: str) -> None:
    conflicts = declared_conflicts("shaping.estimators", kind)
    assert ("drop_uniform" in conflicts) is has_signal_in_equal_groups(kind)


def has_signal_in_equal_groups(kind: str) -> bool:
    return getattr(load_default("estimators", kind).module, "SIGNAL_IN_EQUAL_GROUPS", False)


def has_signal(kind: str, scored: ScoredGroup) -> bool:
    estimator: AdvantageEstimator = load_default("estimators", kind).build()
    return any(row.any() for row in estimator.advantages(scored))


@pytest.mark.parametrize("kind", of("estimators"))
def test_a_group_of_one_has_finite_advantages(kind: str) -> None:
    estimator: AdvantageEstimator = load_default("estimators", kind).build()
    assert np.isfinite(estimator.advantages(make_scored([True]))[0]).all()


# -- shapers


def constant_rows(scored: ScoredGroup) -> tuple[np.ndarray, ...]:
    values = scored.rewards - scored.rewards.mean()
    return tuple(np.full(r.num_tokens, v, np.float32) for r, v in zip(scored.group.rollouts, values, strict=True))


@pytest.mark.parametrize("kind", of("shapers"))
def test_multipliers_are_finite_float32_rows_that_are_never_negative(kind: str) -> None:
    scored = make_mixed_group()
    segmented, advantages = make_segmented(scored), constant_rows(scored)
    before = frozen((segmented, advantages))
    shaper: Shaper = load_default("shapers", kind).build()
    result = shaper.multipliers(segmented, advantages)
    assert [row.shape for row in result.multipliers] == [(r.num_tokens,) for r in scored.group.rollouts]
    assert all(row.dtype == np.float32 and np.isfinite(row).all() for row in result.multipliers)
    assert all((row >= 0).all() for row in result.multipliers)
    assert frozen((segmented, advantages)) == before


@pytest.mark.parametrize("kind", of("shapers"))
def test_multipliers_follow_their_rollouts(kind: str) -> None:
    scored, order = make_mixed_group(), [4, 2, 0, 3, 1]
    shuffled = permuted(scored, order)
    shaper: Shaper = load_default("shapers", kind).build()
    rows = shaper.multipliers(make_segmented(scored), constant_rows(scored)).multipliers
    again = shaper.multipliers(make_segmented(shuffled), constant_rows(shuffled)).multipliers
    for row, source in zip(again, order, strict=True):
        np.testing.assert_array_equal(row, rows[source])


@pytest.mark.parametrize("kind", of("shapers"))
def test_a_shaper_gives_the_same_twice_and_names_its_metrics(kind: str) -> None:
    scored = make_mixed_group()
    shaper: Shaper = load_default("shapers", kind).build()
    first = shaper.multipliers(make_segmented(scored), constant_rows(scored))
    second = shaper.multipliers(make_segmented(scored), constant_rows(scored))
    assert all(np.array_equal(a, b) for a, b in zip(first.multipliers, second.multipliers, strict=True))
    assert first.metrics == second.metrics
    assert all(name.startswith(f"{kind}_") and name == name.lower() for name in first.metrics)


# -- identities

WITH_IDENTITY = [
    (folder, kind)
    for folder in ("transforms", "estimators", "shapers")
    for kind in of(folder)
    if hasattr(load_default(folder, kind).module, "IDENTITY")
]


def shaping_with(folder: str, kind: str, options: dict[str, Any] | None = None) -> ShapingConfig:
    """A recipe with one kind at its place; "" for none."""
    spec = ComponentSpec(kind=kind, options=options or {})
    fields: dict[str, Any] = {"transforms": (), "shapers": ()}
    fields |= {"estimator": spec} if folder == "estimators" else {folder: (spec,) if kind else ()}
    return ShapingConfig(rewards=(RewardConfig(kind="exact_match"),), segments=SegmentRule(min_length=2), **fields)


def groups_of_every_sort() -> list[RolloutGroup]:
    """Mixed, all correct, all wrong, one alone, and a long outlier among twenty correct ones."""
    long = [make_rollout([1, 2, 9] * 80, entropies=[0.1, 0.5, 1.0] * 80, text="5")]
    short = [make_rollout([1, 9, 4], entropies=[0.1, 1.0, 0.2], text="5") for _ in range(19)]
    rows = [("5", "6", "5", "7"), ("5", "5", "5"), ("6", "7", "6"), ("6",)]
    groups = [
        [make_rollout([1, 2, 9, place, 9][: 3 + place], text=text) for place, text in enumerate(row)] for row in rows
    ]
    return [make_group(rollouts) for rollouts in [*groups, long + short]]


def trained_bytes(config: ShapingConfig) -> list[object]:
    """What the learner would get of each group at its second visit, bit for bit."""
    pipeline = ShapingPipeline(config, decode=lambda ids: f"{len(ids)} tokens")
    outcomes: list[object] = []
    for group in groups_of_every_sort():
        first = pipeline.shape((group,))
        second = pipeline.shape((dataclasses.replace(group, recalled=first.remembered),))
        if isinstance(second, DroppedGroup):
            outcomes.append(second.drop)
            continue
        arrays = [
            (sample.token_ids, sample.loss_mask, sample.behavior_logprobs, sample.advantages, sample.entropies)
            for sample in second.samples
        ]
        outcomes.append([[array.tobytes() for array in of_sample] for of_sample in arrays])
    return outcomes


@pytest.mark.parametrize(("folder", "kind"), WITH_IDENTITY)
def test_with_the_options_of_its_identity_a_kind_is_the_other_bit_for_bit(folder: str, kind: str) -> None:
    identity = load_default(folder, kind).module.IDENTITY
    assert identity.keys() == {"kind", "options"}
    assert trained_bytes(shaping_with(folder, kind, identity["options"])) == trained_bytes(
        shaping_with(folder, identity["kind"])
    )


@pytest.mark.parametrize(("folder", "kind"), WITH_IDENTITY)
def test_with_its_defaults_a_kind_that_has_an_identity_is_not_the_other(folder: str, kind: str) -> None:
    identity = load_default(folder, kind).module.IDENTITY
    assert trained_bytes(shaping_with(folder, kind)) != trained_bytes(shaping_with(folder, identity["kind"]))


# -- schedules and memories


@pytest.mark.parametrize("kind", of("schedules"))
def test_a_schedule_is_finite_and_pure(kind: str) -> None:
    schedule, other = load_default("schedules", kind).build(), load_default("schedules", kind).build()
    values = [schedule.value(step) for step in range(1001)]
    assert all(isinstance(value, float) and math.isfinite(value) for value in values)
    assert [other.value(step) for step in reversed(range(1001))] == values[::-1]


@pytest.mark.parametrize("kind", of("memories"))
def test_a_memory_is_idempotent_by_visit(kind: str) -> None:
    memory = load_default("memories", kind).build()
    memory.write("p", 1, {"accuracy": 0.5})
    once = copy.deepcopy(memory.state())
    memory.write("p", 1, {"accuracy": 0.5})
    assert memory.state() == once


@pytest.mark.parametrize("kind", of("memories"))
def test_a_memory_is_restored_from_its_json(kind: str) -> None:
    memory, other = load_default("memories", kind).build(), load_default("memories", kind).build()
    for visit, prompt_id in enumerate(["p", "q", "p"]):
        memory.write(prompt_id, visit, {"accuracy": 0.25 * visit})
    other.write("r", 0, {"accuracy": 1.0})
    other.restore(json.loads(json.dumps(memory.state())))
    assert other.state() == memory.state()
    assert [other.read(prompt_id) for prompt_id in "pqr"] == [memory.read(prompt_id) for prompt_id in "pqr"]


@pytest.mark.parametrize("kind", of("memories"))
def test_what_is_read_from_a_memory_is_a_copy(kind: str) -> None:
    memory = load_default("memories", kind).build()
    memory.write("p", 1, {"accuracy": 0.5})
    before = memory.read("p")
    memory.read("p")["accuracy"] = 9.0
    assert memory.read("p") == before
