"""A cluster as a file describes it, for `lessrl plan --cluster`: the nodes of a cluster that need not be there yet."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.placement.packing import Node
from services.recipe_yaml import read_yaml, yaml_fault
from shaping.errors import UserError

GIB = 2**30


class NodeKind(BaseModel):
    """Nodes that are alike.

    Args:
        name: what they are called in answers; several get numbers.
        count: how many there are.
        gpus, cpus: that Ray offers on each of them.
        memory_gib: of each of them.
        gpu_memory_gib: of each GPU; 0 where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    count: int = Field(default=1, ge=1, le=10_000)
    gpus: int = Field(default=0, ge=0)
    cpus: float = Field(ge=0)
    memory_gib: float = Field(gt=0)
    gpu_memory_gib: float = Field(default=0, ge=0)

    def nodes(self) -> tuple[Node, ...]:
        """Each of them, with a name of its own."""
        names = [self.name] if self.count == 1 else [f"{self.name}-{index}" for index in range(self.count)]
        return tuple(
            Node(
                name=name,
                cpus=self.cpus,
                gpus=self.gpus,
                memory_bytes=int(self.memory_gib * GIB),
                gpu_memory_bytes=int(self.gpu_memory_gib * GIB),
            )
            for name in names
        )


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: list[NodeKind] = Field(min_length=1)


def read_cluster(path: Path) -> tuple[Node, ...]:
    """The nodes of a description, in its order.

    Raises:
        UserError: no such file, no YAML, an unknown key, a wrong value, GPUs without a size, a name that stands twice.
    """
    if not path.is_file():
        raise UserError(
            f"a described cluster must be a YAML file, found no file {path}; see deploy/placements for some (--cluster)"
        )
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"a described cluster must be valid YAML: {yaml_fault(error)} ({path})") from error
    try:
        kinds = _Description.model_validate(raw).nodes
    except ValidationError as error:
        raise UserError(_explain(error, path)) from error
    for index, kind in enumerate(kinds):
        if kind.gpus and not kind.gpu_memory_gib:
            raise UserError(f"nodes with GPUs must say their gpu_memory_gib, found none (nodes.{index} in {path})")
    nodes = tuple(node for kind in kinds for node in kind.nodes())
    names = [node.name for node in nodes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"each node must have a name of its own, found {twice!r} twice; rename one (nodes in {path})")
    return nodes


def _explain(error: ValidationError, path: Path) -> str:
    first: Any = error.errors()[0]
    *parents, last = [str(part) for part in first["loc"]] or ["nodes"]
    place = f"{'.'.join([*parents, last])} in {path}"
    if first["type"] == "extra_forbidden":
        known = sorted(NodeKind.model_fields if parents else _Description.model_fields)
        close = difflib.get_close_matches(last, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return f"unknown key {last!r}; {hint} ({place})"
    if first["type"] == "model_type":
        return f"must be a mapping of keys, got {first['input']!r} ({place})"
    if first["type"] == "missing":
        return f"{last} must be given ({place})"
    return f"{first['msg'].replace('Input should be', 'must be', 1)}, got {first['input']!r} ({place})"
