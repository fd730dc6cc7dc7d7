"""A cluster that a file describes."""

from pathlib import Path

import pytest

from services.placement.described_cluster import GIB, read_cluster
from shaping.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_cluster(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_nodes_of_a_kind_get_numbers_and_one_alone_keeps_its_name(tmp_path: Path) -> None:
    text = """
        nodes:
          - {name: head, cpus: 16, memory_gib: 64}
          - {name: gpu, count: 2, gpus: 8, cpus: 96, memory_gib: 1000, gpu_memory_gib: 79.5}
    """
    nodes = read_cluster(write(tmp_path, text))
    assert [node.name for node in nodes] == ["head", "gpu-0", "gpu-1"]
    assert (nodes[0].gpus, nodes[0].cpus, nodes[0].gpu_memory_bytes) == (0, 16, 0)
    assert (nodes[2].gpus, nodes[2].memory_bytes, nodes[2].gpu_memory_bytes) == (8, 1000 * GIB, 79 * GIB + GIB // 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes: [{name: a, cpus: 1, memory_gib: 1, gpu: 8}]", "unknown key 'gpu'; did you mean 'gpus'? (nodes.0.gpu"),
        ("node: []", "nodes must be given (nodes"),
        ("nodes: [{name: a, memory_gib: 1}]", "cpus must be given (nodes.0.cpus"),
        ("nodes: [{name: a, cpus: -1, memory_gib: 1}]", "must be greater than or equal to 0, got -1 (nodes.0.cpus"),
        ("nodes: []", "List should have at least 1 item after validation, not 0, got [] (nodes"),
        ("- a", "must be a mapping of keys, got ['a'] (nodes"),
        ("nodes: [", "must be valid YAML"),
        ("nodes: [{name: a, cpus: 1, memory_gib: 1, gpus: 8}]", "nodes with GPUs must say their gpu_memory_gib"),
        (
            "nodes: [{name: a, cpus: 1, memory_gib: 1}, {name: a, cpus: 1, memory_gib: 1}]",
            "each node must have a name of its own, found 'a' twice",
        ),
    ],
)
def test_what_describes_no_cluster_is_refused_at_its_key(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(write(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "found no file" in refusal(tmp_path / "none.yaml")
