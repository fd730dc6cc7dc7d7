"""Laws of the prompt stream."""

import json
from dataclasses import dataclass

import pytest

from rollout.prompts import PromptStream
from rollout.selectors import sequential, shuffled, success_band
from rollout.selectors.base import GroupOutcome, PromptSelector
from rollout.sources.base import SkippedRow
from shaping.errors import DataError, RecipeError, RecordError
from shaping.records import Message, Prompt


@dataclass(frozen=True)
class NumberedSource:
    """A PromptSource of `size` prompts named `<name><index>`."""

    size: int
    name: str = "p"
    has_solution_steps: bool = False
    skipped_rows: tuple[SkippedRow, ...] = ()

    def __len__(self) -> int:
        return self.size

    def prompt(self, index: int) -> Prompt:
        return Prompt(
            prompt_id=f"{self.name}{index}",
            messages=(Message(role="user", content=str(index)),),
            reference_answer=str(index),
            position=index,
        )


def make_shuffled(size: int, seed: int = 0) -> PromptSelector:
    return shuffled.build(shuffled.Config(), num_prompts=size, seed=seed)


def make_sequential(size: int) -> PromptSelector:
    return sequential.build(sequential.Config(), num_prompts=size, seed=0)


def make_outcome(prompt_id: str, num_correct: int = 1) -> GroupOutcome:
    return GroupOutcome(prompt_id=prompt_id, num_correct=num_correct, num_scored=2, was_trained=True)


def take(stream: PromptStream, count: int) -> list[tuple[int, int]]:
    visits = [stream.next() for _ in range(count)]
    return [(each.prompt.position, each.visit) for each in visits]


def test_visits_count_from_one_per_prompt() -> None:
    stream = PromptStream(NumberedSource(3), make_sequential(3))
    assert take(stream, 7) == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2), (0, 3)]
    assert stream.num_given == 7


def test_restored_stream_goes_on_exactly() -> None:
    whole = PromptStream(NumberedSource(7), make_shuffled(7))
    expected = take(whole, 40)
    first = PromptStream(NumberedSource(7), make_shuffled(7))
    take(first, 17)
    second = PromptStream(NumberedSource(7), make_shuffled(7))
    second.restore(json.loads(json.dumps(first.state())))
    assert second.num_given == 17
    assert take(second, 23) == expected[17:]
    assert second.state() == whole.state()


def test_refused_prompts_are_left_out_and_counted_once() -> None:
    asked: list[int] = []

    def accept(prompt: Prompt) -> bool:
        asked.append(prompt.position)
        return prompt.position % 2 == 0

    stream = PromptStream(NumberedSource(5), make_sequential(5), accept=accept)
    assert [position for position, _ in take(stream, 6)] == [0, 2, 4, 0, 2, 4]
    assert stream.num_left_out == 2
    assert asked.count(1) == asked.count(3) == 1


def test_prompts_that_are_left_out_are_told_of_the_first_time_and_at_each_power_of_ten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = PromptStream(
        NumberedSource(30), make_sequential(30), accept=lambda prompt: prompt.position > 11, accept_rule="above 11"
    )
    take(stream, 40)
    # Positions 0 to 11 are left out, once each.
    assert [each.message for each in caplog.records] == [
        "lessrl: note: prompts left out so far: 1; above 11",
        "lessrl: note: prompts left out so far: 10; above 11",
    ]


def test_one_acceptable_prompt_is_found_in_every_order() -> None:
    # Between two of its turns a shuffled order may hold all others twice.
    for seed in range(30):
        stream = PromptStream(NumberedSource(6), make_shuffled(6, seed), accept=lambda prompt: prompt.position == 2)
        assert take(stream, 10) == [(2, visit) for visit in range(1, 11)]


def test_no_acceptable_prompt_ends_in_an_error_that_says_the_rule() -> None:
    stream = PromptStream(
        NumberedSource(4),
        make_shuffled(4),
        accept=lambda _: False,
        accept_rule="a prompt must have at most 5 tokens (rollout.max_prompt_tokens)",
    )
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"at most 5 tokens \(rollout.max_prompt_tokens\); found no such prompt, 4 of 4"
        ):
            stream.next()


def test_selector_that_insists_on_a_refused_prompt_ends_in_an_error() -> None:
    class Stubborn:
        def next_index(self) -> int:
            return 0

        def observe(self, index: int, outcome: GroupOutcome) -> None: ...

        def state(self) -> dict[str, object]:
            return {}

        def restore(self, state: dict[str, object]) -> None: ...

    stream = PromptStream(NumberedSource(4), Stubborn(), accept=lambda prompt: prompt.position > 0)
    with pytest.raises(DataError, match="1 of 4 were left out"):
        stream.next()


def test_success_band_does_not_come_back_to_refused_prompts() -> None:
    selector = success_band.build(success_band.Config(), num_prompts=6, seed=0)
    stream = PromptStream(NumberedSource(6), selector, accept=lambda prompt: prompt.position < 3)
    for _ in range(30):
        item = stream.next()
        stream.observe(make_outcome(item.prompt.prompt_id))
    state = selector.state()
    assert sorted(state["under_way"]) == [3, 4, 5]  # type: ignore[call-overload]


def test_outcomes_reach_the_selector_by_index() -> None:
    selector = success_band.build(success_band.Config(), num_prompts=3, seed=0)
    stream = PromptStream(NumberedSource(3), selector)
    items = [stream.next() for _ in range(3)]
    stream.observe(make_outcome("p2", num_correct=1))
    stream.observe(make_outcome("p0", num_correct=2))
    assert {item.prompt.prompt_id for item in items} == {"p0", "p1", "p2"}
    assert selector.state()["accuracy"] == [[2, 0.5], [0, 1.0]]


def test_outcome_of_a_prompt_never_given_is_refused() -> None:
    stream = PromptStream(NumberedSource(3), make_sequential(3))
    stream.next()
    with pytest.raises(RecordError, match="'p1'"):
        stream.observe(make_outcome("p1"))


def test_outcome_is_understood_after_a_restart() -> None:
    first = PromptStream(NumberedSource(3), make_sequential(3))
    first.next()
    second = PromptStream(NumberedSource(3), make_sequential(3))
    second.restore(json.loads(json.dumps(first.state())))
    second.observe(make_outcome("p0"))


def test_state_of_other_data_is_refused() -> None:
    stream = PromptStream(NumberedSource(3), make_sequential(3))
    take(stream, 2)
    with pytest.raises(RecipeError, match="prompt 0 was 'p0' and is 'q0' now"):
        PromptStream(NumberedSource(3, name="q"), make_sequential(3)).restore(stream.state())
    with pytest.raises(RecipeError, match="num_prompts 3, the run has 4"):
        PromptStream(NumberedSource(4), make_sequential(4)).restore(stream.state())
    with pytest.raises(RecipeError, match="a saved seen must be an object"):
        stream.restore({})
