"""A placement as a person reads it."""

import itertools
from collections.abc import Iterator

from services.placement.place import MemoryUse, NodeUse, Placement
from services.plan_text import bytes_text, rows_text


def placement_text(placement: Placement) -> str:
    """Lines of at most 120 characters; nodes that are used alike and stand together share one."""
    used = [use for use in placement.nodes if use.actors]
    cpus, gpus = sum(use.claimed_cpus for use in used), sum(use.claimed_gpus for use in used)
    all_cpus, all_gpus = sum(use.cpus for use in placement.nodes), sum(use.gpus for use in placement.nodes)
    head = (
        "cluster",
        f"fits: {len(used)} of {len(placement.nodes)} nodes, {gpus:g} of {all_gpus:g} GPUs, "
        f"{cpus:g} of {all_cpus:g} CPUs",
    )
    rows = [head, *(("", words) for words in _nodes(placement.nodes))]
    rows += [("GPU memory", _memory(use)) for use in placement.memory]
    rows += [("note", warning) for warning in placement.warnings]
    return rows_text(rows)


def _nodes(nodes: tuple[NodeUse, ...]) -> Iterator[str]:
    for _, alike in itertools.groupby(nodes, key=_use):
        group = list(alike)
        first, last = group[0], group[-1]
        names = first.name if len(group) == 1 else f"{first.name} to {last.name}, each"
        yield f"{names}: {_use(first)}"


def _use(use: NodeUse) -> str:
    actors = ", ".join(f"{count} {role}" for role, count in use.actors.items()) or "no actor"
    return f"{actors}; {use.claimed_gpus:g} of {use.gpus:g} GPUs, {use.claimed_cpus:g} of {use.cpus:g} CPUs"


def _memory(use: MemoryUse) -> str:
    if use.role == "rollout":
        return (
            f"rollout: {bytes_text(use.state)} of weights in {bytes_text(use.available)}, KV cache of "
            f"{use.kv_cache_sequences:,} longest sequences"
        )
    activations = (
        f"{bytes_text(use.activations)} of activations" if use.activations else "activations that are not known"
    )
    return f"learner: {bytes_text(use.state)} of state and {activations} in {bytes_text(use.available)}"
