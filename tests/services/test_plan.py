"""What a recipe means in figures, and every reason why it cannot work, before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest
from recipe_builders import make_recipe

from rollout.buffer import GroupBuffer
from services.buffer_plan import buffer_config
from services.plan import RunPlan, make_plan
from services.plan_text import plan_text
from services.recipe import load_recipe
from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError, UserError
from shaping.groups import DropReason

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "deploy" / "recipes").glob("*.yaml"))


def plan_of(changes: dict[str, Any] | None = None) -> RunPlan:
    return make_plan(make_recipe(changes))


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        plan_of(changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_model(folder: Path, **sizes: Any) -> str:
    """config.json of a small Llama-like model."""
    config = {
        "vocab_size": 100,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **sizes}))
    return str(folder)


# -- figures


def test_figures_of_a_small_recipe() -> None:
    plan = plan_of(
        {
            "run.steps": 5,
            "run.max_staleness": 2,
            "run.max_attempts_per_step": 1.3,
            "learner.mini_batch_groups": 2,
            "learner.num_epochs": 3,
        }
    )
    assert (plan.steps, plan.groups_per_step, plan.group_size) == (5, 4, 2)
    assert plan.rollouts_per_step == 8  # 4 groups x 2
    assert plan.max_response_tokens_per_step == 64  # 8 x 8 tokens
    assert plan.max_sequence_tokens == 40  # 32 + 8
    assert plan.mini_batches_per_step == 2  # 4 / 2
    assert plan.updates_per_step == 6  # 2 x 3 epochs
    assert plan.updates_total == 30  # 6 x 5
    assert plan.max_groups_in_system == 12  # (2 + 1) x 4
    assert plan.max_attempts_per_step == 6  # ceil(1.3 x 4 = 5.2)
    assert (plan.num_rollout_workers, plan.num_shaping_workers, plan.num_learner_ranks) == (1, 1, 1)
    assert (plan.total_cpus, plan.total_gpus) == (3, 0)  # one each


def test_one_mini_batch_is_the_whole_step_when_none_is_asked_for() -> None:
    assert (plan_of().mini_batches_per_step, plan_of().updates_per_step) == (1, 1)


def test_back_pressure_lowers_the_number_of_groups_in_the_system() -> None:
    plan = plan_of({"run.max_staleness": 2, "run.admission": {"kind": "exact", "max_buffered_groups": 5}})
    assert plan.max_groups_in_system == 5


def test_a_plan_says_the_bound_of_staleness_that_follows_from_admission() -> None:
    exact, late = plan_of(), plan_of({"run.max_staleness": 1})
    assert (exact.max_age_versions, late.max_age_versions) == (0, 1)
    assert "at most 0 versions: synchronous, the exact mode" in plan_text(exact)
    # Four groups a step and a factor of 1.5: two may be left over, ceil(2 / 4) versions old.
    carried = plan_of({"run.admission": "rsr"})
    assert (carried.max_age_versions, carried.max_groups_in_system) == (1, 6)
    words = " ".join(plan_text(carried).split())
    assert "at most 1 versions: groups that rsr leaves over open the next step; none is sampled while" in words
    # A factor of 3: eight are left over, two steps' worth, beside the one that max_staleness allows.
    most = plan_of({"run.admission": {"kind": "rsr", "over_sampling": 3, "max_age": 2}, "run.max_staleness": 1})
    assert (most.max_age_versions, most.max_groups_in_system) == (3, 16)


def test_resources_are_those_of_all_actors() -> None:
    plan = plan_of(
        {
            "cluster.device": "cuda",
            "rollout.num_workers": 3,
            "rollout.engine.tensor_parallel_size": 2,
            "cluster.num_shaping_workers": 4,
            "cluster.rollout": {"num_cpus": 0.5, "num_gpus": 1},
            "cluster.shaping": {"num_cpus": 0.25},
            "cluster.learner": {"num_cpus": 2, "num_gpus": 1},
        }
    )
    # 3 x 2 x 0.5 + 4 x 0.25 + 1 x 2 CPUs; 3 x 2 + 1 GPUs.
    assert (plan.total_cpus, plan.total_gpus) == (6, 7)


def test_memory_follows_from_the_models_sizes(tmp_path: Path) -> None:
    plan = plan_of({"model.path": write_model(tmp_path)})
    # Tied embeddings 100 x 8 = 800. A layer: q and o 2 x 8 x 8 = 128; k and v, two of four heads, 2 x 8 x 4 = 64;
    # MLP 3 x 8 x 16 = 384; together 576, two layers 1152.
    assert plan.num_parameters == 1952
    assert plan.rollout_weight_bytes == 4 * 1952  # float32
    assert plan.learner_state_bytes == 16 * 1952  # weights and gradients 4 + 4, Adam 8
    untied = plan_of({"model.path": write_model(tmp_path, tie_word_embeddings=False)})
    assert untied.num_parameters == 2752


def test_memory_of_bfloat16_over_ranks_and_gpus(tmp_path: Path) -> None:
    plan = plan_of(
        {
            "model.path": write_model(tmp_path),
            "rollout.engine.dtype": "bfloat16",
            "rollout.engine.tensor_parallel_size": 2,
            "learner": {"engine": "deepspeed", "num_ranks": 4, "dtype": "bfloat16"},
        }
    )
    assert plan.rollout_weight_bytes == 1952  # 2 bytes, halved
    assert plan.learner_state_bytes == 1952 * 18 // 4  # weights 2, master 4, gradients 4, Adam 8


@pytest.mark.parametrize("sizes", [{"model.path": "some/model"}, {}])
def test_memory_that_cannot_be_known_is_not_guessed(tmp_path: Path, sizes: dict[str, str]) -> None:
    # A name of the hub; and a folder whose model names its sizes otherwise.
    (tmp_path / "config.json").write_text(json.dumps({"n_embd": 8, "vocab_size": 100}))
    plan = plan_of(sizes or {"model.path": str(tmp_path)})
    assert plan.num_parameters is None and plan.learner_state_bytes is None and plan.rollout_weight_bytes is None
    assert any("memory is not known" in warning for warning in plan.warnings)


def test_signals_are_those_that_the_components_need() -> None:
    plan = plan_of({"rollout.plan": "hinted_second_round"})
    assert {"raw_entropies", "solution_steps", "verdicts"} <= set(plan.signals)
    assert list(plan.signals) == sorted(plan.signals)


def test_what_may_surprise_is_said() -> None:
    changes = {"rollout.sampling.top_p": 0.9, "learner.micro_batch_tokens": 39}
    warnings = " | ".join(plan_of(changes).warnings)
    assert "truncated distribution" in warnings
    assert "a sequence of 40 tokens is longer than learner.micro_batch_tokens 39" in warnings
    assert "no held-out accuracy will be measured" in warnings


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_has_a_plan_that_a_person_can_read(path: Path) -> None:
    plan = make_plan(load_recipe(path))
    lines = plan_text(plan).splitlines()
    assert lines[0] == f"{plan.name}: {plan.steps} steps"
    assert max(map(len, lines)) <= 120
    assert json.loads(json.dumps(plan.as_dict()))["updates_total"] == plan.updates_total


def test_every_warning_is_in_the_text_in_lines_of_120_characters() -> None:
    plan = plan_of({"rollout.sampling.top_k": 5, "learner.micro_batch_tokens": 39})
    text = plan_text(plan)
    assert max(map(len, text.splitlines())) <= 120
    words = " ".join(text.split())
    assert all(warning in words for warning in plan.warnings)


# -- the buffer that a plan promises


@pytest.mark.parametrize(("staleness", "room"), [(0, 0), (0, 4), (2, 0), (2, 4), (3, 7)])
def test_planned_buffer_takes_every_step_even_if_every_group_is_dropped(staleness: int, room: int) -> None:
    recipe = make_recipe(
        {"run.max_staleness": staleness, "run.admission": {"kind": "exact", "max_buffered_groups": room}}
    )
    buffer: GroupBuffer[None] = GroupBuffer(buffer_config(recipe))
    while buffer.version < recipe.run.steps:
        while buffer.can_admit():
            buffer.drop(buffer.admit(), DropReason.NO_SIGNAL)
        buffer.take()
        buffer.release(buffer.version + 1)


# -- refusals


def test_mini_batches_that_do_not_divide_a_step_are_refused_with_one_that_does() -> None:
    message = refusal({"rollout.groups_per_step": 12, "learner.mini_batch_groups": 5})
    assert "must divide rollout.groups_per_step, got 5 and 12; try 4" in message
    assert "(learner.mini_batch_groups)" in message
    assert plan_of({"rollout.groups_per_step": 12, "learner.mini_batch_groups": 4}).mini_batches_per_step == 3


def test_buffer_too_small_for_a_step_is_refused() -> None:
    message = refusal({"run.admission": {"kind": "exact", "max_buffered_groups": 3}})
    assert "a step needs 4 groups, but only 3 may wait: the run could never take a step" in message
    assert "(run.admission.max_buffered_groups)" in message


@pytest.mark.parametrize(
    ("changes", "kind", "signal", "remedy", "key"),
    [
        (
            {"rollout.sampling.entropy_source": "processed"},
            "less",
            "raw_entropies",
            "set rollout.sampling.entropy_source to raw",
            "shaping.shapers[0]",
        ),
        (
            {"rollout.plan": "hinted_second_round", "data.train": {"kind": "jsonl", "path": "rows.jsonl"}},
            "hinted_second_round",
            "solution_steps",
            "use a data.train source with solution steps",
            "rollout.plan",
        ),
    ],
)
def test_signal_that_nobody_supplies_is_refused_by_name_and_key(
    changes: dict[str, Any], kind: str, signal: str, remedy: str, key: str
) -> None:
    assert refusal(changes) == f"{kind} needs {signal}, which nothing supplies; {remedy} ({key})"


def test_solution_steps_come_from_a_field_that_is_named() -> None:
    source = {"kind": "jsonl", "path": "rows.jsonl", "steps_field": "steps"}
    assert plan_of({"rollout.plan": "hinted_second_round", "data.train": source}).signals


@pytest.mark.parametrize("kind", ["arithmetic_task", "arrow", "hub", "jsonl", "parquet"])
def test_source_says_before_reading_whether_it_has_solution_steps(kind: str) -> None:
    options: dict[str, Any] = {"hub": {"name": "some/set"}, "arithmetic_task": {}}.get(kind, {"path": "/data/rows"})
    component = load("rollout.sources", ComponentSpec(kind=kind, options=options), "data.train")
    if kind == "arithmetic_task":
        assert component.module.supplies_steps(component.config) is component.build().has_solution_steps is True
        return
    assert component.module.supplies_steps(component.config) is False
    named = load("rollout.sources", ComponentSpec(kind=kind, options={**options, "steps_field": "s"}), "data.train")
    assert named.module.supplies_steps(named.config) is True


def test_sequence_longer_than_the_models_positions_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path, max_position_embeddings=39)
    message = refusal({"model.path": model})
    assert f"must be <= 39, got 32 + 8 (rollout.max_prompt_tokens, model {model})" in message
    # A limit of the recipe's own may be lower than the model's, never higher.
    assert "must be <= 20" in refusal({"model": {"path": model, "max_model_tokens": 20}})
    assert "must be <= 39" in refusal({"model": {"path": model, "max_model_tokens": 100}})
    assert plan_of({"model.path": write_model(tmp_path, max_position_embeddings=40)}).max_sequence_tokens == 40


def test_tensor_parallel_size_must_divide_the_heads(tmp_path: Path) -> None:
    message = refusal({"model.path": write_model(tmp_path), "rollout.engine.tensor_parallel_size": 3})
    assert "must divide the model's 4 attention heads, got 3 (rollout.engine.tensor_parallel_size)" in message


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "must hold a Hugging Face model" in refusal({"model.path": str(tmp_path / "none")})
    (tmp_path / "config.json").write_text("{")
    assert "config.json must be JSON" in refusal({"model.path": str(tmp_path)})


def test_claims_above_the_cpus_of_a_local_ray_are_refused() -> None:
    assert "all actors claim 3 CPUs, but cluster.local_cpus is 2" in refusal({"cluster.local_cpus": 2})
    # 3 x 0.1 + 6 x 0.1 + 0.1 adds up to a little more than 1 in floating point.
    tenth = {"num_cpus": 0.1}
    cluster = {"device": "cpu", "local_cpus": 1, "num_shaping_workers": 6, "rollout": tenth}
    plan = plan_of({"rollout.num_workers": 3, "cluster": {**cluster, "shaping": tenth, "learner": tenth}})
    assert plan.total_cpus > 1


def test_gpus_on_a_cpu_cluster_are_refused() -> None:
    message = refusal({"cluster.learner.num_gpus": 2})
    assert "cluster.device is cpu, but actors claim 2 GPUs; set num_gpus to 0" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learner.num_ranks": 2}, "learner.engine torch runs in one process, got num_ranks 2"),
        ({"learner.dtype": "bfloat16"}, "learner.engine torch trains in float32, got bfloat16"),
    ],
)
def test_what_the_torch_learner_cannot_do_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(changes)


def test_an_engine_that_is_lent_must_leave_one_that_trains() -> None:
    message = refusal({"rollout.num_workers": 2, "evaluation.num_workers": 2})
    assert "evaluation.num_workers must be < rollout.num_workers, got 2 and 2" in message
    assert plan_of({"rollout.num_workers": 2, "evaluation.num_workers": 1}).evaluation.num_workers == 1


def test_an_unknown_benchmark_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UserError, match=r"no benchmark 'amie24'; did you mean 'aime24'\?"):
        plan_of({"evaluation.benchmarks": ["amie24"]})


def test_a_reward_that_times_programs_must_end_before_its_process_is_killed() -> None:
    changes = {"shaping.rewards": [{"kind": "python_tests", "timeout_seconds": 10}], "shaping.verifiers": {}}
    assert "timeout_seconds must be < shaping.verifiers.call_seconds, got 10 and 10" in refusal(changes)
    assert plan_of({**changes, "shaping.verifiers": {"call_seconds": 11}}).steps


def test_verdicts_without_a_deadline_are_warned_of() -> None:
    warning = "nothing bounds a verdict (shaping.verifiers.num_processes)"
    assert warning in " ".join(plan_of({"shaping.verifiers.num_processes": 0}).warnings)
    assert warning not in " ".join(plan_of({"shaping.verifiers.num_processes": 1}).warnings)


def test_rewards_of_which_none_decides_are_refused() -> None:
    assert "exactly one reward must decide" in refusal({"shaping.rewards": ["format"]})


def test_temperature_that_falls_to_zero_within_the_run_is_refused() -> None:
    schedule = {"kind": "linear", "start": 1.0, "stop": 0.0, "steps": 2}
    message = refusal({"rollout.sampling.temperature": schedule})
    assert message == "temperature must be > 0, got 0 at step 2 (rollout.sampling.temperature)"
    assert plan_of({"rollout.sampling.temperature": schedule, "run.steps": 2}).steps == 2


def test_temperature_that_changes_needs_a_synchronous_run() -> None:
    schedule = {"kind": "linear", "start": 1.0, "stop": 0.5, "steps": 2}
    message = refusal({"rollout.sampling.temperature": schedule, "run.max_staleness": 1})
    assert "a temperature that changes needs run.max_staleness 0, got 1" in message
    message = refusal({"rollout.sampling.temperature": schedule, "run.admission": "rsr"})
    assert "and run.admission without surplus, got rsr" in message
    constant = {"kind": "constant", "value": 0.7}
    assert plan_of({"rollout.sampling.temperature": constant, "run.max_staleness": 1}).max_staleness == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("learner.loss", "ppo_clp", "no losses kind 'ppo_clp'; did you mean 'ppo_clip'? (learner.loss)"),
        ("shaping.estimator", "gpro", "no estimators kind 'gpro'; did you mean 'grpo'? (shaping.estimator)"),
        ("rollout.selector", {"kind": "shuffled", "seed": 1}, "unknown option 'seed'; known: none (rollout.selector"),
        ("shaping.shapers", [{"kind": "less", "clas": 1}], "(shaping.shapers[0].less)"),
        ("data.train", {"kind": "arithmetic_task", "size": "many"}, "must be int, got 'many' (data.train"),
        ("rollout.sampling.temperature", "warm", "no schedules kind 'warm'"),
    ],
)
def test_wrong_kind_or_option_is_refused_at_its_key(key: str, value: object, words: str) -> None:
    assert words in refusal({key: value})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("accuracy", "keep_best accuracy needs held-out problems: give data.evaluation"),
        ("best_reward", "keep_best must be accuracy or a metric of the catalogue, got 'best_reward'"),
    ],
)
def test_the_best_checkpoint_must_be_judged_by_a_number_that_is_there(name: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        plan_of({"run.checkpoint.keep_best": name, "data.evaluation": None})
    lent = {"rollout.num_workers": 2, "evaluation.num_workers": 1, "data.evaluation": "arithmetic_task"}
    beside = refusal({**lent, "run.checkpoint.keep_best": "accuracy"})
    assert "keep_best accuracy needs it when the checkpoint is taken" in beside
    assert plan_of({"run.checkpoint.keep_best": "reward_total_value"}).steps


def test_a_run_that_could_not_go_on_is_warned_of() -> None:
    warnings = plan_of({"run.checkpoint.every_steps": 0, "run.max_restarts": 1}).warnings
    assert any("a run that dies begins again" in each for each in warnings)
