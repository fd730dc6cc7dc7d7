"""What a recipe means, worked out before anything starts, and every reason why it cannot work.

Reads the recipe, the model's config.json where it is on disk, and the plug-in files that the recipe names. Starts
nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.buffer_plan import buffer_config
from services.lora_plan import num_adapter_parameters
from services.plan_checks import check_recipe
from services.plugins import load_plugins
from services.recipe import Recipe
from services.recipe_sections import EvaluationConfig
from shaping.components import Component, import_module_of
from shaping.config import VerifierConfig
from shaping.errors import RecipeError

ADAM_STATE_BYTES = 8
SIZES_IN_CONFIG = {
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What config.json says of a policy; `num_parameters` is estimated for a Llama-like decoder."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    max_position_tokens: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    num_parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The figures of a run. Bytes are per actor; what cannot be known is None."""

    name: str
    steps: int
    groups_per_step: int
    group_size: int
    rollouts_per_step: int
    max_response_tokens_per_step: int
    max_sequence_tokens: int
    mini_batches_per_step: int
    updates_per_step: int
    updates_total: int
    micro_batch_tokens: int
    max_staleness: int
    max_age_versions: int
    admission: str
    max_groups_in_system: int
    max_attempts_per_step: int
    at_attempt_cap: str
    num_rollout_workers: int
    num_shaping_workers: int
    num_learner_ranks: int
    total_cpus: float
    total_gpus: float
    num_parameters: int | None
    num_trained_parameters: int | None
    rollout_weight_bytes: int | None
    learner_state_bytes: int | None
    prompt_template: str
    response_ends: tuple[str, ...] | None
    verifiers: VerifierConfig
    evaluated: tuple[str, ...]
    evaluation: EvaluationConfig
    signals: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(recipe: Recipe, *, with_torch: bool = True) -> RunPlan:
    """Work a recipe out.

    Args:
        with_torch: also check the options and signals of learner plug-ins, which import torch; without it (or without
            torch installed) only their kinds and conflicts are checked here, the rest by the learner when it starts.
    Raises:
        RecipeError: the first reason why it cannot work.
    """
    components = load_plugins(recipe, with_torch=with_torch)
    needed, forced = check_recipe(recipe, components)
    buffer = buffer_config(recipe)
    facts = model_facts(recipe)
    adapters = num_adapter_parameters(recipe)
    sequence = recipe.max_sequence_tokens
    check_model(recipe, facts, sequence)
    rollouts = recipe.rollout.groups_per_step * recipe.rollout.group_size
    mini_batches = recipe.rollout.groups_per_step // (
        recipe.learner.mini_batch_groups or recipe.rollout.groups_per_step
    )
    updates = mini_batches * recipe.learner.num_epochs
    cpus, gpus = total_resources(recipe)
    return RunPlan(
        name=recipe.name,
        steps=recipe.run.steps,
        groups_per_step=recipe.rollout.groups_per_step,
        group_size=recipe.rollout.group_size,
        rollouts_per_step=rollouts,
        max_response_tokens_per_step=rollouts * recipe.rollout.sampling.max_response_tokens,
        max_sequence_tokens=sequence,
        mini_batches_per_step=mini_batches,
        updates_per_step=updates,
        updates_total=updates * recipe.run.steps,
        micro_batch_tokens=recipe.learner.micro_batch_tokens,
        max_staleness=recipe.run.max_staleness,
        max_age_versions=buffer.max_age_versions,
        admission=recipe.run.admission.kind,
        max_groups_in_system=buffer.max_groups,
        max_attempts_per_step=buffer.max_attempts_per_step,
        at_attempt_cap=buffer.at_cap,
        num_rollout_workers=recipe.rollout.num_workers,
        num_shaping_workers=recipe.cluster.num_shaping_workers,
        num_learner_ranks=recipe.learner.num_ranks,
        total_cpus=cpus,
        total_gpus=gpus,
        num_parameters=facts.num_parameters if facts else None,
        num_trained_parameters=_num_trained(recipe, facts, adapters),
        rollout_weight_bytes=_rollout_bytes(recipe, facts),
        learner_state_bytes=_learner_bytes(recipe, facts, adapters),
        prompt_template=recipe.rollout.prompt_template.kind,
        response_ends=_response_ends(recipe),
        verifiers=recipe.shaping.verifiers,
        evaluated=_evaluated(recipe),
        evaluation=recipe.evaluation,
        signals=tuple(sorted(needed)),
        warnings=(*forced, *_warnings(recipe, facts, sequence), *_warnings_of(components, recipe.rollout.group_size)),
    )


def model_facts(recipe: Recipe) -> ModelFacts | None:
    """Read config.json of a model folder.

    Returns:
        None for a Hugging Face name, which is known only once it is loaded, and where sizes have other names.
    Raises:
        RecipeError: the folder, or its config.json, is not there, or is no JSON.
    """
    folder = Path(recipe.model.path)
    if not folder.is_absolute():
        return None
    config = folder / "config.json"
    if not config.is_file():
        raise RecipeError(f"model.path must hold a Hugging Face model, found no {config} (model.path)")
    try:
        raw = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"config.json must be JSON: {error} ({config}, model.path)") from error
    if not set(raw) >= SIZES_IN_CONFIG:
        return None
    width, layers, heads = raw["hidden_size"], raw["num_hidden_layers"], raw["num_attention_heads"]
    key_value_heads = raw.get("num_key_value_heads", heads)
    key_value = width * key_value_heads // heads
    per_layer = 2 * width * width + 2 * width * key_value + 3 * width * raw["intermediate_size"]
    embeddings = raw["vocab_size"] * width * (1 if raw.get("tie_word_embeddings") else 2)
    return ModelFacts(
        vocab_size=raw["vocab_size"],
        hidden_size=width,
        num_layers=layers,
        max_position_tokens=raw["max_position_embeddings"],
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        head_size=raw.get("head_dim") or width // heads,
        num_parameters=embeddings + layers * per_layer,
    )


def check_model(recipe: Recipe, facts: ModelFacts | None, sequence: int) -> None:
    """The model must have room for the longest sequence and divide over its GPUs."""
    limits = (recipe.model.max_model_tokens, facts.max_position_tokens if facts else 0)
    limit = min((each for each in limits if each), default=sequence)
    if sequence > limit:
        raise RecipeError(
            f"max_prompt_tokens + max_response_tokens must be <= {limit}, got {recipe.rollout.max_prompt_tokens} + "
            f"{recipe.rollout.sampling.max_response_tokens} (rollout.max_prompt_tokens, model {recipe.model.path})"
        )
    parallel = recipe.rollout.engine.tensor_parallel_size
    if facts and facts.num_attention_heads % parallel:
        raise RecipeError(
            f"tensor_parallel_size must divide the model's {facts.num_attention_heads} attention heads, got {parallel} "
            "(rollout.engine.tensor_parallel_size)"
        )


def total_resources(recipe: Recipe) -> tuple[float, float]:
    """CPUs and GPUs that all actors claim together; refused where a local Ray was promised fewer CPUs."""
    cluster = recipe.cluster
    counts = (
        (recipe.rollout.num_workers * recipe.rollout.engine.tensor_parallel_size, cluster.rollout),
        (cluster.num_shaping_workers, cluster.shaping),
        (recipe.learner.num_ranks, cluster.learner),
    )
    cpus = sum(count * resources.num_cpus for count, resources in counts)
    gpus = sum(count * resources.num_gpus for count, resources in counts)
    # Fractions like 0.1 add up to a little more than they say.
    if cluster.local_cpus and cpus > cluster.local_cpus + 1e-9:
        raise RecipeError(
            f"all actors claim {cpus:g} CPUs, but cluster.local_cpus is {cluster.local_cpus:g}; "
            "claim fractions or raise it (cluster)"
        )
    if cluster.device == "cpu" and gpus:
        raise RecipeError(f"cluster.device is cpu, but actors claim {gpus:g} GPUs; set num_gpus to 0 (cluster)")
    return cpus, gpus


def _evaluated(recipe: Recipe) -> tuple[str, ...]:
    held_out = (f"{recipe.evaluation.num_problems} held-out problems",) if recipe.data.evaluation else ()
    return (*held_out, *(each.partition("=")[0] for each in recipe.evaluation.benchmarks))


def _response_ends(recipe: Recipe) -> tuple[str, ...] | None:
    """The strings and tokens that end a response, beside the model's own end-of-sequence tokens.

    Returns:
        None for a Hugging Face name, whose tokenizer is known only once it is loaded.
    Raises:
        DataError: the template does not fit the tokenizer.
    """
    if not (Path(recipe.model.path) / "tokenizer.json").is_file():
        return None
    # Reading a tokenizer takes a second, which only this waits for.
    template = import_module_of("services.roles", "prompts").build_renderer(recipe).template
    return (*recipe.rollout.sampling.stop, *template.stop_strings, *template.end_tokens)


def _rollout_bytes(recipe: Recipe, facts: ModelFacts | None) -> int | None:
    if facts is None:
        return None
    width = 4 if recipe.rollout.engine.dtype == "float32" else 2
    return facts.num_parameters * width // recipe.rollout.engine.tensor_parallel_size


def _num_trained(recipe: Recipe, facts: ModelFacts | None, adapters: int | None) -> int | None:
    if recipe.learner.lora.rank:
        return adapters
    return facts.num_parameters if facts else None


def _learner_bytes(recipe: Recipe, facts: ModelFacts | None, adapters: int | None) -> int | None:
    """One rank's parameters, and of those that train gradients and Adam's two moments; bfloat16 keeps a float32 master
    beside them.
    """
    trained = _num_trained(recipe, facts, adapters)
    if facts is None or trained is None:
        return None
    width, working = (4, 4) if recipe.learner.dtype == "float32" else (2, 4 + 4)
    total = facts.num_parameters + (adapters or 0)
    return (total * width + trained * (working + ADAM_STATE_BYTES)) // recipe.learner.num_ranks


def _warnings_of(components: dict[str, Component], group_size: int) -> Iterator[str]:
    """What plug-ins say of their own options in this run; a file may have `warnings(config, *, group_size)`."""
    for key, component in components.items():
        warn = getattr(component.module, "warnings", None)
        if warn is not None:
            yield from (f"{warning} ({key})" for warning in warn(component.config, group_size=group_size))


def _warnings(recipe: Recipe, facts: ModelFacts | None, sequence: int) -> Iterator[str]:
    sampling = recipe.rollout.sampling
    if sampling.top_p < 1 or sampling.top_k:
        yield (
            "responses are sampled from a truncated distribution while the learner scores the full one: "
            "importance ratios start below 1 (rollout.sampling)"
        )
    if sequence > recipe.learner.micro_batch_tokens:
        yield (
            f"a sequence of {sequence} tokens is longer than learner.micro_batch_tokens "
            f"{recipe.learner.micro_batch_tokens}: it gets a micro-batch of its own"
        )
    if recipe.run.checkpoint.every_steps == 0 and recipe.run.max_restarts:
        yield "a run that dies begins again: no checkpoints are written (run.checkpoint.every_steps 0)"
    if recipe.data.evaluation is None and not recipe.evaluation.benchmarks:
        yield "no held-out accuracy will be measured: neither data.evaluation nor evaluation.benchmarks is given"
    if not recipe.shaping.verifiers.num_processes:
        yield "responses are judged in the shaping process: nothing bounds a verdict (shaping.verifiers.num_processes)"
    if facts is None:
        yield f"memory is not known before {recipe.model.path} is loaded (model.path)"
