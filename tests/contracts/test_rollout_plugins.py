"""Laws of every kind of source, selector and plan. The files are found by themselves: a new one is tested unseen.

A source kind that reads something needs a line in `source_options`, which writes it a small data set.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rollout.plans.base import FinishedRound, RolloutPlan, Round, round_metrics
from rollout.selectors.base import GroupOutcome, PromptSelector
from rollout.sources.base import PromptSource
from services.metrics.entries import catalogue
from shaping.components import Component, ComponentSpec, kinds, load
from shaping.errors import RecipeError
from shaping.memories.last_values import LastValues
from shaping.metrics import merge_metrics, metric_values
from shaping.records import Message, Prompt
from shaping.signals import Signal

FOLDERS = ("rollout.sources", "rollout.selectors", "rollout.plans", "rollout.templates")
ALL_KINDS = [(folder, kind) for folder in FOLDERS for kind in kinds(folder)]

ROWS = [{"problem": f"{i} + 1?", "answer": str(i + 1)} for i in range(12)]


def source_options(kind: str, folder: Path) -> dict[str, Any]:
    """Options that make a small source of this kind, and write what it reads."""
    if kind in ("arrow", "parquet"):
        path = folder / f"set.{kind}"
        write = pyarrow.feather.write_feather if kind == "arrow" else pyarrow.parquet.write_table
        write(pyarrow.Table.from_pylist(ROWS), path)
        return {"path": str(path)}
    if kind == "mixture":
        parts = [
            {"kind": "arithmetic_task", "size": 2},
            {"kind": "jsonl", **source_options("jsonl", folder), "limit": 10},
        ]
        return {"sources": parts}
    if kind in ("jsonl", "hub"):
        path = folder / "set" / "train.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
        return (
            {"path": str(path)} if kind == "jsonl" else {"name": str(path.parent), "cache_dir": str(folder / "cache")}
        )
    return {"size": 12} if kind == "arithmetic_task" else {}


def make_source(kind: str, folder: Path) -> PromptSource:
    source: PromptSource = load(
        "rollout.sources", ComponentSpec(kind=kind, options=source_options(kind, folder)), "data"
    ).build()
    return source


def make_selector(kind: str, *, num_prompts: int = 11, seed: int = 3) -> PromptSelector:
    selector: PromptSelector = load("rollout.selectors", ComponentSpec(kind=kind), "rollout.selector").build(
        num_prompts=num_prompts, seed=seed
    )
    return selector


def make_plan(kind: str, group_size: int = 8) -> RolloutPlan:
    plan: RolloutPlan = load("rollout.plans", ComponentSpec(kind=kind), "rollout.plan").build(group_size=group_size)
    return plan


def play(selector: PromptSelector, start: int, stop: int) -> list[int]:
    """Indices of turns [start, stop); the outcome of each turn is a function of turn and index, some never come."""
    indices = []
    for turn in range(start, stop):
        index = selector.next_index()
        indices.append(index)
        if turn % 5:
            num_correct = (3 * index + turn) % 5
            selector.observe(
                index,
                GroupOutcome(prompt_id=str(index), num_correct=num_correct, num_scored=4, was_trained=turn % 2 == 0),
            )
    return indices


def make_prompt(num_steps: int) -> Prompt:
    return Prompt(
        prompt_id="p",
        messages=(Message(role="user", content="?"),),
        reference_answer="42",
        position=0,
        solution_steps=tuple(f"step {i}" for i in range(1, num_steps)) + (("so \\boxed{42}",) if num_steps else ()),
    )


# -- every file


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_file_holds_what_the_registry_reads(folder: str, kind: str, tmp_path: Path) -> None:
    options = source_options(kind, tmp_path) if folder == "rollout.sources" else {}
    component: Component = load(folder, ComponentSpec(kind=kind, options=options), "x")
    assert component.module.__doc__
    assert all(isinstance(need, Signal) for need in component.needs)
    context = {
        "rollout.sources": [],
        "rollout.selectors": ["num_prompts", "seed"],
        "rollout.plans": ["group_size"],
        "rollout.templates": ["tokenizer"],
    }
    first, *rest = inspect.signature(component.module.build).parameters.values()
    assert first.annotation is component.module.Config
    assert [(each.name, each.kind) for each in rest] == [
        (name, inspect.Parameter.KEYWORD_ONLY) for name in context[folder]
    ]


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_unknown_option_is_refused_with_what_is_known(folder: str, kind: str, tmp_path: Path) -> None:
    options = source_options(kind, tmp_path) if folder == "rollout.sources" else {}
    component = load(folder, ComponentSpec(kind=kind, options=options), "x")
    known = list(component.module.Config.__dataclass_fields__)
    misspelt = f"{known[0]}x" if known else "anything"
    with pytest.raises(RecipeError) as caught:
        load(folder, ComponentSpec(kind=kind, options={**options, misspelt: 1}), "x")
    assert f"unknown option '{misspelt}'; " in str(caught.value)
    assert (f"did you mean '{known[0]}'?" if known else "known: none") in str(caught.value)


@pytest.mark.parametrize("folder", FOLDERS)
def test_misspelt_kind_is_refused_with_a_suggestion(folder: str) -> None:
    kind = kinds(folder)[0]
    with pytest.raises(RecipeError, match=f"did you mean '{kind}'"):
        load(folder, ComponentSpec(kind=f"{kind}x"), "x")


# -- sources


@pytest.mark.parametrize("kind", kinds("rollout.sources"))
def test_source_gives_the_same_numbered_prompts_again(kind: str, tmp_path: Path) -> None:
    source, again = make_source(kind, tmp_path), make_source(kind, tmp_path)
    prompts = [source.prompt(index) for index in range(len(source))]
    assert len(prompts) == len(again) == 12
    assert [again.prompt(index) for index in reversed(range(12))] == prompts[::-1]
    assert [prompt.position for prompt in prompts] == list(range(12))
    assert len({prompt.prompt_id for prompt in prompts}) == 12
    assert all(prompt.messages[-1].role == "user" for prompt in prompts)
    assert all(bool(prompt.solution_steps) == source.has_solution_steps for prompt in prompts)
    assert source.skipped_rows == ()


# -- selectors


@pytest.mark.parametrize("kind", kinds("rollout.selectors"))
def test_selector_is_determined_by_its_seed(kind: str) -> None:
    indices = play(make_selector(kind), 0, 100)
    assert indices == play(make_selector(kind), 0, 100)
    assert set(indices) == set(range(11))


@pytest.mark.parametrize("kind", kinds("rollout.selectors"))
def test_selector_shows_every_prompt_before_any_comes_again(kind: str) -> None:
    assert sorted(play(make_selector(kind), 0, 11)) == list(range(11))


@pytest.mark.parametrize("kind", kinds("rollout.selectors"))
@pytest.mark.parametrize("stop", [0, 1, 10, 11, 12, 50])
def test_restored_selector_goes_on_exactly(kind: str, stop: int) -> None:
    first, second = make_selector(kind), make_selector(kind)
    play(first, 0, stop)
    saved = json.dumps(first.state())
    play(second, 0, 7)
    second.restore(json.loads(saved))
    assert json.dumps(second.state()) == saved
    assert play(second, stop, stop + 60) == play(first, stop, stop + 60)


@pytest.mark.parametrize("kind", kinds("rollout.selectors"))
def test_saved_state_does_not_follow_the_selector(kind: str) -> None:
    selector = make_selector(kind)
    play(selector, 0, 13)
    state = selector.state()
    saved = json.dumps(state)
    play(selector, 13, 40)
    assert json.dumps(state) == saved


@pytest.mark.parametrize("kind", kinds("rollout.selectors"))
def test_selector_of_one_prompt_gives_it_always(kind: str) -> None:
    assert set(play(make_selector(kind, num_prompts=1), 0, 20)) == {0}


@pytest.mark.parametrize("kind", kinds("rollout.selectors"))
def test_state_for_other_data_is_refused(kind: str) -> None:
    with pytest.raises(RecipeError, match="num_prompts"):
        make_selector(kind, num_prompts=12).restore(make_selector(kind).state())


# -- plans


@pytest.mark.parametrize("kind", kinds("rollout.plans"))
@settings(max_examples=60, deadline=None)
@given(
    group_size=st.sampled_from((4, 8, 9, 12)),
    num_steps=st.integers(0, 5),
    accuracies=st.lists(st.lists(st.floats(0, 1), min_size=8, max_size=8), min_size=1, max_size=6),
)
def test_plan_stays_in_its_bounds_and_never_gives_the_answer_away(
    kind: str, group_size: int, num_steps: int, accuracies: list[list[float]]
) -> None:
    plan, memory, prompt = make_plan_if_it_can(kind, group_size), LastValues(), make_prompt(num_steps)
    assume(plan is not None)
    assert plan is not None
    assume(not plan.refusal(prompt))
    for visit, row in enumerate(accuracies, start=1):
        finished: list[FinishedRound] = []
        while (planned := plan.next_round(prompt, tuple(finished), memory.read("p"))) is not None:
            check_round(plan, prompt, planned)
            num_correct = round(row[len(finished)] * planned.num_rollouts)
            rewards = np.zeros(planned.num_rollouts, np.float32)
            rewards[:num_correct] = 1
            finished.append(FinishedRound(round=planned, rewards=rewards, num_correct=num_correct))
            assert len(finished) <= plan.max_rounds
        assert finished, "the first call must give a round"
        assert sum(each.round.num_rollouts for each in finished) <= plan.max_rollouts
        learned = plan.close(prompt, tuple(finished))
        assert learned == json.loads(json.dumps(learned)) == plan.close(prompt, tuple(finished))
        memory.write("p", visit, learned)


def make_plan_if_it_can(kind: str, group_size: int) -> RolloutPlan | None:
    try:
        return make_plan(kind, group_size)
    except RecipeError:
        return None


def check_round(plan: RolloutPlan, prompt: Prompt, planned: Round) -> None:
    """A round is of at least one rollout, and its hint is whole steps, never the last one, within the longest hint."""
    assert planned.num_rollouts >= 1
    assert planned.temperature_scale > 0
    assert 0 <= planned.hint_rate < 1 and 0 <= planned.planned_rate <= 1
    assert "boxed" not in planned.hint
    assert plan.longest_hint(prompt).startswith(planned.hint)
    if planned.hint:
        shown = planned.hint.rstrip("\n").split("\n")
        assert shown == list(prompt.solution_steps[: len(shown)])
        assert planned.hint_rate == len(shown) / len(prompt.solution_steps)


@pytest.mark.parametrize("kind", kinds("rollout.plans"))
def test_what_a_plan_measures_is_in_the_catalogue_and_merges_over_groups(kind: str) -> None:
    plan, prompt = make_plan(kind), make_prompt(4)
    finished: list[FinishedRound] = []
    measured = [plan.metrics(prompt, ())]
    while plan.max_rounds > 1 and (planned := plan.next_round(prompt, tuple(finished), {})) is not None:
        rewards = np.array([1.0] + [0.0] * (planned.num_rollouts - 1), np.float32)
        finished.append(FinishedRound(round=planned, rewards=rewards, num_correct=1))
        measured += [plan.metrics(prompt, tuple(finished)), round_metrics(tuple(finished))]
    values = metric_values(merge_metrics(measured))
    assert catalogue().unknown(values) == []
    assert all(0 <= each <= 1 for each in values.values())


@pytest.mark.parametrize("kind", kinds("rollout.plans"))
def test_a_group_that_ended_before_its_first_round_teaches_nothing(kind: str) -> None:
    assert make_plan(kind).close(make_prompt(4), ()) == {}


@pytest.mark.parametrize("kind", kinds("rollout.plans"))
def test_plan_gives_the_same_rounds_for_the_same_past(kind: str) -> None:
    plan, again = make_plan(kind), make_plan(kind)
    assert plan.next_round(make_prompt(3), (), {}) == again.next_round(make_prompt(3), (), {})
