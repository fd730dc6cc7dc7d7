"""Whether a run fits a described cluster: which node each actor gets, which GPUs stay idle, what their memory holds."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.placement.packing import SLACK, Bundle, Node, first_without_device, pack
from services.plan import ADAM_STATE_BYTES, ModelFacts, RunPlan, model_facts
from services.recipe import Recipe
from services.recipe_sections import Resources
from shaping.errors import RecipeError

TIGHT_SHARE = 0.9
"""Of a GPU's memory: what is estimated leaves out the CUDA context, communication buffers and fragmentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What a run takes of one node.

    Args:
        actors: number of actors by role.
    """

    name: str
    actors: dict[str, int]
    cpus: float
    gpus: float
    claimed_cpus: float
    claimed_gpus: float

    @property
    def idle_gpus(self) -> float:
        return self.gpus - self.claimed_gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """What one actor of a role holds on each of its GPUs, as far as it can be estimated. Bytes.

    Args:
        available: of the smallest GPU that the role got, its share of it where it claims a part.
        state: weights; of a learner rank also gradients and optimizer.
        activations: of a learner rank, what gradient checkpointing keeps of the largest forward pass; 0 where the
            recipe keeps all, which is not estimated.
        kv_cache_sequences: of an engine: longest sequences whose KV cache fits beside the weights.
    """

    role: str
    available: int
    state: int
    activations: int = 0
    kv_cache_sequences: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A run on a described cluster.

    Args:
        actors: the node of each actor, by name.
        memory: of each role with GPUs; none where the model's sizes are not known.
    """

    nodes: tuple[NodeUse, ...]
    actors: dict[str, str]
    memory: tuple[MemoryUse, ...]
    idle_gpus: float
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bundles_of(recipe: Recipe) -> tuple[Bundle, ...]:
    """What each actor claims, in the order in which services/cluster.py asks for it."""
    cluster, parallel = recipe.cluster, recipe.rollout.engine.tensor_parallel_size
    roles = (
        ("learner", recipe.learner.num_ranks, cluster.learner, 1),
        ("rollout", recipe.rollout.num_workers, cluster.rollout, parallel),
        ("shaping", cluster.num_shaping_workers, cluster.shaping, 1),
    )
    return tuple(
        Bundle(
            role=role,
            actor=f"{role}-{index}",
            cpus=each.num_cpus * times,
            gpus=each.num_gpus * times,
        )
        for role, count, each, times in roles
        for index in range(count)
    )


def place(recipe: Recipe, plan: RunPlan, nodes: Sequence[Node]) -> Placement:
    """Put every actor of a run on a node of an empty cluster, as Ray would.

    Raises:
        RecipeError: an actor that is larger than any node, actors without room, or memory that cannot be enough.
    """
    bundles = bundles_of(recipe)
    for bundle in bundles:
        _check_one_node(recipe, bundle, nodes)
    places = pack(bundles, nodes)
    _check_all_placed(bundles, places, nodes)
    chosen = {bundle.actor: nodes[index] for bundle, index in zip(bundles, places, strict=True) if index is not None}
    _check_devices(bundles, chosen)
    uses = tuple(_use(node, [each for each in bundles if chosen[each.actor] is node]) for node in nodes)
    memory = tuple(_memory(recipe, plan, bundles, chosen))
    _check_memory(memory)
    _check_host_memory(recipe, plan, bundles, chosen)
    return Placement(
        nodes=uses,
        actors={actor: node.name for actor, node in chosen.items()},
        memory=memory,
        idle_gpus=sum(use.idle_gpus for use in uses),
        warnings=(*_warnings(bundles, chosen, uses, memory), *_unknown_memory(recipe, memory)),
    )


def _check_one_node(recipe: Recipe, bundle: Bundle, nodes: Sequence[Node]) -> None:
    """One actor lies on one node: the GPUs of an engine are joined over that node's own links."""
    if any(bundle.fits(node.cpus, node.gpus) for node in nodes):
        return
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
    offers = f"the largest node, {largest.name}, offers {_claim(largest.cpus, largest.gpus)}"
    parallel = recipe.rollout.engine.tensor_parallel_size
    if bundle.role == "rollout" and parallel > 1:
        raise RecipeError(
            f"an engine must lie on one node, got tensor_parallel_size {parallel}, which claims "
            f"{_claim(bundle.cpus, bundle.gpus)}; {offers}; lower it or cluster.rollout "
            "(rollout.engine.tensor_parallel_size)"
        )
    raise RecipeError(
        f"an actor must lie on one node, got {bundle.actor}, which claims {_claim(bundle.cpus, bundle.gpus)}; {offers}"
        f"; lower its claims or take larger nodes (cluster.{bundle.role})"
    )


def _check_all_placed(bundles: Sequence[Bundle], places: Sequence[int | None], nodes: Sequence[Node]) -> None:
    outside = [bundle for bundle, place in zip(bundles, places, strict=True) if place is None]
    if not outside:
        return
    claimed = _claim(sum(each.cpus for each in bundles), sum(each.gpus for each in bundles))
    offered = _claim(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
    roles = ", ".join(f"{count} {role}" for role, count in Counter(each.role for each in outside).items())
    raise RecipeError(
        f"every actor must find room, got none for {roles} of {len(bundles)} actors; together they claim {claimed}, "
        f"{len(nodes)} nodes offer {offered}; lower rollout.num_workers, learner.num_ranks or the claims, or add nodes "
        "(cluster)"
    )


def _check_devices(bundles: Sequence[Bundle], chosen: dict[str, Node]) -> None:
    for node in chosen.values():
        short = first_without_device([each for each in bundles if chosen[each.actor] is node], int(node.gpus))
        if short is not None:
            raise RecipeError(
                f"a part of a GPU must be a part of one GPU, got {short.actor}, which claims {short.gpus:g}, and no "
                f"GPU of {node.name} has so much left; claim parts that fill one, such as 0.5 "
                f"(cluster.{short.role}.num_gpus)"
            )


def _use(node: Node, bundles: Sequence[Bundle]) -> NodeUse:
    return NodeUse(
        name=node.name,
        actors=dict(Counter(each.role for each in bundles)),
        cpus=node.cpus,
        gpus=node.gpus,
        claimed_cpus=sum(each.cpus for each in bundles),
        claimed_gpus=sum(each.gpus for each in bundles),
    )


def _memory(recipe: Recipe, plan: RunPlan, bundles: Sequence[Bundle], chosen: dict[str, Node]) -> Iterator[MemoryUse]:
    """Nothing where no GPU is claimed, or the model's sizes are not known."""
    facts = model_facts(recipe)
    cluster = recipe.cluster
    if facts is None or plan.rollout_weight_bytes is None or plan.learner_state_bytes is None:
        return
    if cluster.rollout.num_gpus:
        available = _gpu_memory("rollout", cluster.rollout, bundles, chosen)
        yield MemoryUse(
            role="rollout",
            available=available,
            state=plan.rollout_weight_bytes,
            kv_cache_sequences=_kv_cache_sequences(recipe, plan, facts, available),
        )
    if cluster.learner.num_gpus:
        learner = recipe.learner
        kept = facts.num_layers * facts.hidden_size * (4 if learner.dtype == "float32" else 2)
        tokens = max(learner.micro_batch_tokens, plan.max_sequence_tokens)
        yield MemoryUse(
            role="learner",
            available=_gpu_memory("learner", cluster.learner, bundles, chosen),
            state=plan.learner_state_bytes - _offloaded_bytes(recipe, plan),
            activations=tokens * kept if learner.gradient_checkpointing else 0,
        )


def _gpu_memory(role: str, claims: Resources, bundles: Sequence[Bundle], chosen: dict[str, Node]) -> int:
    smallest = min(chosen[each.actor].gpu_memory_bytes for each in bundles if each.role == role)
    return int(smallest * min(claims.num_gpus, 1.0))


def _kv_cache_sequences(recipe: Recipe, plan: RunPlan, facts: ModelFacts, available: int) -> int:
    """Longest sequences that an engine holds at a time; heads that are fewer than its GPUs are held by several."""
    engine = recipe.rollout.engine
    width = 4 if engine.dtype == "float32" else 2
    heads = math.ceil(facts.num_key_value_heads / engine.tensor_parallel_size)
    of_a_token = 2 * facts.num_layers * heads * facts.head_size * width
    assert plan.rollout_weight_bytes is not None
    room = engine.kv_cache_bytes or int(available * engine.gpu_memory_utilization) - plan.rollout_weight_bytes
    return max(room, 0) // (of_a_token * plan.max_sequence_tokens)


def _offloaded_bytes(recipe: Recipe, plan: RunPlan) -> int:
    """What one learner rank keeps in host memory: Adam's moments and a float32 master, and its weights."""
    zero, learner = recipe.learner.zero, recipe.learner
    if learner.engine != "deepspeed" or plan.num_parameters is None or plan.num_trained_parameters is None:
        return 0
    is_float32 = learner.dtype == "float32"
    moments = plan.num_trained_parameters * (ADAM_STATE_BYTES + (0 if is_float32 else 4))
    weights = plan.num_parameters * (4 if is_float32 else 2)
    offloaded = (moments if zero.offload_optimizer else 0) + (weights if zero.offload_parameters else 0)
    return offloaded // learner.num_ranks


def _check_memory(memory: Sequence[MemoryUse]) -> None:
    for use in memory:
        if use.role == "rollout" and use.kv_cache_sequences == 0:
            raise RecipeError(
                f"a rollout GPU must hold its weights and the KV cache of one longest sequence, got {_gib(use.state)} "
                f"of weights and GPUs of {_gib(use.available)}; raise rollout.engine.tensor_parallel_size or "
                "gpu_memory_utilization (rollout.engine)"
            )
        if use.role == "learner" and use.state + use.activations > use.available:
            raise RecipeError(
                f"a learner GPU must hold its parameters, gradients, optimizer and activations, got {_gib(use.state)} "
                f"+ {_gib(use.activations)} and GPUs of {_gib(use.available)}; raise learner.num_ranks, lower "
                "learner.micro_batch_tokens or set learner.zero.offload_optimizer (learner)"
            )


def _check_host_memory(recipe: Recipe, plan: RunPlan, bundles: Sequence[Bundle], chosen: dict[str, Node]) -> None:
    offloaded = _offloaded_bytes(recipe, plan)
    ranks = Counter(chosen[each.actor].name for each in bundles if each.role == "learner")
    for node in chosen.values():
        if offloaded * ranks[node.name] > node.memory_bytes:
            raise RecipeError(
                f"a node must hold what its {ranks[node.name]} learner ranks offload, got {_gib(offloaded)} each and "
                f"{_gib(node.memory_bytes)} on {node.name}; raise learner.num_ranks or offload less (learner.zero)"
            )


def _warnings(
    bundles: Sequence[Bundle], chosen: dict[str, Node], uses: Sequence[NodeUse], memory: Sequence[MemoryUse]
) -> Iterator[str]:
    idle = sum(use.idle_gpus for use in uses)
    if idle > SLACK:
        names = ", ".join(f"{use.idle_gpus:g} on {use.name}" for use in uses if use.idle_gpus > SLACK)
        yield f"{idle:g} GPUs stay idle: {names}"
    num_nodes = len({chosen[each.actor].name for each in bundles if each.role == "learner"})
    shared = [use.name for use in uses if use.actors.get("learner") and use.actors.get("rollout")]
    if num_nodes > 1 and shared:
        yield (
            f"learner ranks lie on {num_nodes} nodes and share {', '.join(shared)} with engines: claims that differ by "
            "role (cluster.learner.num_cpus) keep them together"
        )
    for use in memory:
        held = use.state + use.activations
        if use.role == "learner" and held > TIGHT_SHARE * use.available:
            yield f"a learner GPU is nearly full: {_gib(held)} of {_gib(use.available)} before any buffer"


def _unknown_memory(recipe: Recipe, memory: Sequence[MemoryUse]) -> Iterator[str]:
    if recipe.cluster.device == "cuda" and not memory:
        yield (
            f"GPU memory is not compared, as the sizes of {recipe.model.path} are not known here; set model.path to a "
            "folder with its config.json (model.path)"
        )


def _claim(cpus: float, gpus: float) -> str:
    return f"{gpus:g} GPUs and {cpus:g} CPUs"


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
