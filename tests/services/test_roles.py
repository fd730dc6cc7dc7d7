"""What each role is made of, from a recipe: prompts, shaping, learner."""

import json
from pathlib import Path

import numpy as np
import pytest
from group_builders import make_group, make_prompt, make_rollout
from prompt_builders import make_renderer
from recipe_builders import IN_PROCESS, make_recipe

from learner.batch_plan import BatchPlan, SampleSize, plan_batch
from learner.work import StepWork
from rollout.rows import LoadedPrompts
from services.plan import make_plan
from services.roles.learner import LearnerRole
from services.roles.prompts import build_factory, evaluation_sets, make_factory
from services.roles.shaping import build_shaping_role
from shaping.config import RewardConfig
from shaping.errors import DataError, RecipeError
from shaping.groups import DropReason
from shaping.records import EntropySource, Message, Prompt
from shaping.training import StepResult, TrainingSample

REWARDS = {"rewards": ["numeric_answer"], "verifiers": IN_PROCESS}


def write_rows(folder: Path, *problems: str) -> dict[str, str]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"problem": each, "answer": "1"}) + "\n" for each in problems))
    return {"kind": "jsonl", "path": str(path)}


# -- prompts


def test_prompts_come_in_the_selectors_order_and_long_ones_are_left_out(tmp_path: Path) -> None:
    recipe = make_recipe({"data.train": write_rows(tmp_path, "ab", "abcde", "c"), "rollout.selector": "sequential"})
    factory = build_factory(recipe, make_renderer(max_prompt_tokens=4))
    opened = [factory.open(ordinal) for ordinal in range(4)]
    assert [each.prompt.messages[0].content for each in opened] == ["ab", "c", "ab", "c"]
    assert [each.visit for each in opened] == [1, 1, 2, 2]


def test_rows_that_are_left_out_are_told_by_rule_and_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = write_rows(tmp_path, "a", "b", "")
    recipe = make_recipe({"data.train": {**rows, "on_bad_row": "skip", "max_prompt_characters": 1}})
    build_factory(recipe, make_renderer())
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("lessrl: note: 1 rows of data.train are left out: a prompt must not be empty")


def test_data_without_any_prompt_that_fits_is_refused_at_once(tmp_path: Path) -> None:
    recipe = make_recipe({"data.train": write_rows(tmp_path, "abcde", "abcdef"), "rollout.max_prompt_tokens": 4})
    with pytest.raises(DataError, match=r"at most 4 tokens, all 2 have more \(data\.train\)"):
        build_factory(recipe, make_renderer(max_prompt_tokens=4))


def test_a_group_too_small_for_its_plan_is_refused(tmp_path: Path) -> None:
    recipe = make_recipe(
        {
            "data.train": write_rows(tmp_path, "ab"),
            "rollout.plan": "hinted_second_round",
            "rollout.group_size": 1,
        }
    )
    with pytest.raises(RecipeError, match="group_size must be >= 2"):
        build_factory(recipe, make_renderer())


def test_a_group_that_its_plan_cannot_divide_is_refused_before_anything_starts() -> None:
    recipe = make_recipe({"rollout.plan": "seele", "rollout.group_size": 6})
    with pytest.raises(RecipeError, match=r"num_rounds must divide rollout\.group_size, got 4 and 6"):
        make_plan(recipe)


def stepped(*prompts: tuple[str, tuple[str, ...]]) -> LoadedPrompts:
    """Prompts whose answer is 7, with these steps."""
    return LoadedPrompts(
        prompts=tuple(
            Prompt(
                prompt_id=text,
                messages=(Message(role="user", content=text),),
                reference_answer="7",
                position=index,
                solution_steps=steps,
            )
            for index, (text, steps) in enumerate(prompts)
        ),
        has_solution_steps=True,
        skipped_rows=(),
    )


SEELE = {"rollout.plan": "seele", "rollout.group_size": 8, "rollout.selector": "sequential"}


def test_a_prompt_must_fit_with_its_longest_hint() -> None:
    # In characters: 2 and "three\n" are 8; 2 and "three\nfour\n" 13; 6 and "a\n" 8. The last step is never shown.
    source = stepped(("ab", ("three", "a long last step")), ("cd", ("three", "four", "7")), ("efghij", ("a", "7")))
    for plan, expected in (("seele", ["ab", "efghij"]), ("single_round", ["ab", "cd", "efghij"])):
        recipe = make_recipe({**SEELE, "rollout.plan": plan})
        factory = make_factory(recipe, make_renderer(max_prompt_tokens=10), source)
        opened = [factory.open(ordinal) for ordinal in range(len(expected) + 1)]
        assert [each.prompt.prompt_id for each in opened] == [*expected, expected[0]]
    recipe = make_recipe({**SEELE, "rollout.max_prompt_tokens": 4})
    with pytest.raises(DataError, match="a prompt with its longest hint must have at most 4 tokens, all 3 have more"):
        make_factory(recipe, make_renderer(max_prompt_tokens=4), source)


def test_prompts_that_the_plan_refuses_are_named_at_once_or_get_plain_rounds() -> None:
    bad = ("the answer is 7", "so it is")
    source = stepped(("ab", ("a", "b")), ("cd", bad), ("ef", ()))
    with pytest.raises(DataError) as caught:
        make_factory(make_recipe(SEELE), make_renderer(), source)
    assert str(caught.value) == (
        "only the last solution step may announce the answer, step 1 of 2 announces '7' (prompt cd, and 1 more of 3, "
        "data.train): leave such rows out, or set without_steps: plain for rounds without hints (rollout.plan.seele)"
    )
    plain = make_recipe({**SEELE, "rollout.plan": {"kind": "seele", "without_steps": "plain"}})
    factory = make_factory(plain, make_renderer(), source)
    hints = {}
    for ordinal in range(3):
        group = factory.open(ordinal)
        planned = factory.next_request(group, num_rounds_done=0, step=0)
        assert planned is not None
        hints[group.prompt.prompt_id] = planned[0].hint
    assert hints == {"ab": "a\n", "cd": "", "ef": ""}


def test_held_out_problems_are_the_first_that_fit(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, "a", "abcde", "b", "c")
    recipe = make_recipe({"data.evaluation": rows, "evaluation.num_problems": 2})
    (held_out,) = evaluation_sets(recipe, make_renderer(max_prompt_tokens=4))
    assert held_out.name == "held_out" and held_out.num_samples == 1
    assert [each.messages[0].content for each in held_out.prompts] == ["a", "b"]
    assert evaluation_sets(make_recipe(), make_renderer()) == ()
    with pytest.raises(DataError, match="no held-out prompt has at most"):
        evaluation_sets(make_recipe({"data.evaluation": write_rows(tmp_path, "abcde")}), make_renderer(4))


def test_benchmarks_follow_the_held_out_problems_with_settings_of_their_own_within_the_runs_limit(
    tmp_path: Path,
) -> None:
    rows = write_rows(tmp_path, "a", "b")
    recipe = make_recipe(
        {
            "data.evaluation": rows,
            "evaluation.temperature": 0.7,
            "evaluation.benchmarks": [f"mine={rows['path']}"],
            "evaluation.num_samples": 4,
            "rollout.sampling.max_response_tokens": 100,
        }
    )
    held_out, mine = evaluation_sets(recipe, make_renderer())
    assert (held_out.name, held_out.reward.kind, held_out.sampling.temperature) == ("held_out", "math_answer", 0.7)
    # The benchmark's own temperature is 0.1 and its limit 3,072 tokens; the run's engines hold 100.
    assert (mine.name, mine.reward.kind, mine.sampling.temperature) == ("mine", "math_answer", 0.1)
    assert {each.num_samples for each in (held_out, mine)} == {4}
    assert {each.sampling.max_response_tokens for each in (held_out, mine)} == {100}


def test_held_out_problems_are_judged_by_the_reward_of_weight_0_where_there_is_one(tmp_path: Path) -> None:
    rewards = ["random", {"kind": "numeric_answer", "weight": 0, "decides": False}]
    changes = {"data.evaluation": write_rows(tmp_path, "a"), "shaping.rewards": rewards}
    (held_out,) = evaluation_sets(make_recipe(changes), make_renderer())
    # As it is judged alone: no weight, and nothing to decide.
    assert held_out.reward == RewardConfig(kind="numeric_answer")
    changes["shaping.rewards"] = ["random", {"kind": "numeric_answer", "decides": False}]
    (held_out,) = evaluation_sets(make_recipe(changes), make_renderer())
    assert held_out.reward.kind == "random"


# -- shaping


def test_a_shaped_group_is_its_samples_and_a_summary_of_their_sizes() -> None:
    role = build_shaping_role(make_recipe({"shaping": REWARDS}))
    rollouts = [make_rollout([1, 2, 3], text="5", policy_version=4), make_rollout([1, 2], text="6", policy_version=3)]
    summary, samples = role.shape((make_group(rollouts),))
    assert summary.drop is None and (summary.num_correct, summary.num_scored) == (1, 2)
    assert summary.min_policy_version == 3
    # A prompt of two tokens stands before the three and the two of the responses.
    assert [(each.sample_index, each.num_tokens, each.num_valid_tokens) for each in summary.samples] == [
        (0, 5, 3),
        (1, 4, 2),
    ]
    assert [each.num_tokens for each in samples] == [5, 4]


def test_a_dropped_group_has_no_samples_but_a_reason() -> None:
    role = build_shaping_role(make_recipe({"shaping": {**REWARDS, "transforms": ["drop_uniform"]}}))
    summary, samples = role.shape((make_group([make_rollout(text="5"), make_rollout(text="5")]),))
    assert samples == () == summary.samples
    assert summary.drop is not None and summary.drop.reason is DropReason.NO_SIGNAL
    assert (summary.num_correct, summary.num_scored) == (2, 2)


def test_rounds_of_a_group_are_shaped_as_one() -> None:
    role = build_shaping_role(make_recipe({"shaping": REWARDS}))
    first = make_group([make_rollout(text="5", policy_version=2)])
    second = make_group([make_rollout(text="6", policy_version=1)])
    summary, samples = role.shape((first, second))
    assert (summary.num_scored, len(samples), summary.min_policy_version) == (2, 2, 1)


def test_a_score_holds_decided_rollouts_alone() -> None:
    role = build_shaping_role(make_recipe({"shaping": REWARDS}))
    scored = role.score(make_group([make_rollout(text="5"), make_rollout(text="6")]))
    assert (scored.rewards, scored.num_correct) == ((1.0, 0.0), 1)
    # No response can be judged by a reference without a number: no verdict, and no reward of 0.
    unjudged = role.score(make_group([make_rollout(text="5")], prompt=make_prompt(reference_answer="none")))
    assert (unjudged.rewards, unjudged.num_correct) == ((), 0)


# -- learner


class RecordingLearner:
    """Keeps the work it is given."""

    def __init__(self) -> None:
        self.works: list[StepWork] = []

    def step(self, work: StepWork) -> StepResult:
        self.works.append(work)
        return StepResult(policy_version=work.policy_version + 1, num_updates=0, num_valid_tokens=0)


def make_training_sample(num_tokens: int) -> TrainingSample:
    zeros = np.zeros(num_tokens, np.float32)
    return TrainingSample(
        group_id="g",
        rollout_index=0,
        token_ids=np.arange(num_tokens, dtype=np.int32),
        loss_mask=np.zeros(num_tokens, np.bool_),
        behavior_logprobs=zeros,
        advantages=zeros,
        entropies=zeros,
        token_sources=np.zeros(num_tokens, np.uint8),
        min_policy_version=0,
    )


def test_a_learner_step_gets_the_planned_samples_at_the_temperature_they_were_sampled_at() -> None:
    learner = RecordingLearner()
    recipe = make_recipe(
        {
            "rollout.sampling.temperature": {"kind": "linear", "start": 1.0, "stop": 0.5, "steps": 2},
            "rollout.sampling.entropy_source": "processed",
        }
    )
    role = LearnerRole(learner, recipe, rank=1)  # type: ignore[arg-type]
    groups = {index: (make_training_sample(5 + index), make_training_sample(15 + index)) for index in range(3)}
    sizes = [
        SampleSize(group_index=group, sample_index=index, num_tokens=each.num_tokens, num_valid_tokens=0)
        for group, samples in groups.items()
        for index, each in enumerate(samples)
    ]
    plan: BatchPlan = plan_batch(
        sizes, num_ranks=2, mini_batch_groups=0, num_epochs=1, micro_batch_tokens=20, layout="packed", seed=0
    )
    role.step(plan, 1, groups)
    (work,) = learner.works
    assert (work.step, work.policy_version, work.temperature) == (1, 1, 0.75)
    assert work.entropy_source is EntropySource.PROCESSED
    planned = [[size.num_tokens for size in each] for each in plan.mini_batches[0].micro_batches[1]]
    found = [[sample.num_tokens for sample in each] for each in work.mini_batches[0].micro_batches]
    assert found == planned and sum(map(len, found)) > 0
