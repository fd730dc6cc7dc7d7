"""Whether a run fits a described cluster, and why not."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from recipe_builders import make_recipe, write_recipe

from services.cli import main
from services.placement.packing import Node
from services.placement.place import Placement, bundles_of, place
from services.placement.text import placement_text
from services.plan import make_plan
from shaping.errors import RecipeError

GIB = 2**30
CUDA: dict[str, Any] = {
    "cluster.device": "cuda",
    "cluster.rollout": {"num_cpus": 2, "num_gpus": 1},
    "cluster.learner": {"num_cpus": 4, "num_gpus": 1},
    "cluster.shaping": {"num_cpus": 1},
    "learner.engine": "deepspeed",
    "learner.dtype": "bfloat16",
    "rollout.engine": {"kind": "vllm", "dtype": "bfloat16"},
}


def make_nodes(number: int = 1, *, cpus: float = 32, gpus: float = 8, gpu_gib: float = 80) -> list[Node]:
    return [
        Node(
            name=f"gpu-{index}",
            cpus=cpus,
            gpus=gpus,
            memory_bytes=100 * GIB,
            gpu_memory_bytes=int(gpu_gib * GIB),
        )
        for index in range(number)
    ]


def place_on(nodes: list[Node], changes: dict[str, Any] | None = None) -> Placement:
    recipe = make_recipe(copy.deepcopy({**CUDA, **(changes or {})}))
    return place(recipe, make_plan(recipe), nodes)


def refusal(nodes: list[Node], changes: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        place_on(nodes, changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_model(folder: Path, **sizes: Any) -> str:
    """100 x 8 tied embeddings and two layers of 2 x 64 + 2 x 32 + 384 = 576: 1,952 parameters."""
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
    (folder / "config.json").write_text(json.dumps({**config, **sizes}))
    return str(folder)


def test_parts_of_gpus_that_add_up_and_find_no_gpu_are_refused() -> None:
    """Ray would take the claim for the sum, and have it wait for ever: 3 x 0.6 on two GPUs."""
    claims = {"num_cpus": 1, "num_gpus": 0.6}
    changes = {
        "learner.num_ranks": 2,
        "rollout.num_workers": 1,
        "cluster.learner": dict(claims),
        "cluster.rollout": dict(claims),
    }
    said = refusal(make_nodes(gpus=2), changes)
    assert "got rollout-0, which claims 0.6, and no GPU of gpu-0 has so much left" in said
    assert said.endswith("(cluster.rollout.num_gpus)")
    assert place_on(make_nodes(gpus=3), changes).idle_gpus == pytest.approx(1.2)


def test_bundles_are_what_the_actors_claim_and_an_engine_is_one() -> None:
    changes = {"rollout.num_workers": 2, "rollout.engine.tensor_parallel_size": 4, "learner.num_ranks": 2}
    recipe = make_recipe(copy.deepcopy({**CUDA, **changes}))
    claims = [(each.actor, each.cpus, each.gpus) for each in bundles_of(recipe)]
    assert claims == [
        ("learner-0", 4, 1),
        ("learner-1", 4, 1),
        ("rollout-0", 8, 4),
        ("rollout-1", 8, 4),
        ("shaping-0", 1, 0),
    ]
    plan = make_plan(recipe)
    assert (sum(cpus for _, cpus, _ in claims), sum(gpus for *_, gpus in claims)) == (plan.total_cpus, plan.total_gpus)


def test_a_placement_says_who_is_where_and_what_stays_idle() -> None:
    placement = place_on(make_nodes(2, gpus=4), {"rollout.engine.tensor_parallel_size": 4, "learner.num_ranks": 3})
    first, second = placement.nodes
    assert (first.actors, first.claimed_gpus, first.claimed_cpus) == ({"rollout": 1, "shaping": 1}, 4, 9)
    assert (second.actors, second.claimed_gpus, second.idle_gpus) == ({"learner": 3}, 3, 1)
    assert placement.actors["rollout-0"] == "gpu-0" and placement.actors["learner-2"] == "gpu-1"
    assert placement.idle_gpus == 1
    assert "1 GPUs stay idle: 1 on gpu-1" in placement.warnings


def test_an_engine_larger_than_a_node_is_refused() -> None:
    message = refusal(make_nodes(4), {"rollout.engine.tensor_parallel_size": 16})
    assert message == (
        "an engine must lie on one node, got tensor_parallel_size 16, which claims 16 GPUs and 32 CPUs; the largest "
        "node, gpu-0, offers 8 GPUs and 32 CPUs; lower it or cluster.rollout (rollout.engine.tensor_parallel_size)"
    )


def test_an_actor_larger_than_a_node_is_refused() -> None:
    message = refusal(make_nodes(4), {"cluster.shaping": {"num_cpus": 33}})
    assert "got shaping-0, which claims 0 GPUs and 33 CPUs" in message and message.endswith("(cluster.shaping)")


def test_gpus_that_are_enough_in_sum_but_in_pieces_are_refused() -> None:
    # Three engines of three GPUs: one fits on each node of four, although nodes have eight together.
    changes = {"rollout.num_workers": 3, "rollout.engine.tensor_parallel_size": 3, "model.path": "some/model"}
    message = refusal(
        make_nodes(3, gpus=4, cpus=64), {**changes, "learner.num_ranks": 4, "learner.engine": "deepspeed"}
    )
    assert "got none for 1 learner of 8 actors; together they claim 13 GPUs" in message
    changes["rollout.num_workers"] = 4
    message = refusal(make_nodes(3, gpus=5, cpus=64), changes)
    assert "got none for 1 rollout of 6 actors; together they claim 13 GPUs" in message
    assert "3 nodes offer 15 GPUs" in message


def test_memory_of_each_role_is_compared_with_its_gpu(tmp_path: Path) -> None:
    changes = {
        "model.path": write_model(tmp_path),
        "learner.num_ranks": 2,
        "learner.gradient_checkpointing": True,
        "rollout.engine.tensor_parallel_size": 2,
        "rollout.engine.gpu_memory_utilization": 0.5,
    }
    rollout, learner = place_on(make_nodes(gpu_gib=1), changes).memory
    assert (rollout.state, rollout.available) == (1952, GIB)  # two bytes over two GPUs
    # A token: keys and values, 2 layers, 1 of 2 heads, 2 numbers, 2 bytes: 16. A sequence: 32 + 8 tokens.
    assert rollout.kv_cache_sequences == (GIB // 2 - 1952) // (16 * 40)
    assert learner.state == 1952 * 18 // 2
    assert learner.activations == 256 * 2 * 8 * 2  # micro_batch_tokens, layers, width, bytes


def test_heads_that_are_fewer_than_an_engines_gpus_are_held_by_several(tmp_path: Path) -> None:
    changes = {"model.path": write_model(tmp_path), "rollout.engine.tensor_parallel_size": 4}
    rollout, _ = place_on(make_nodes(gpu_gib=1), changes).memory
    # One head of two on each of four GPUs: 16 bytes a token, as on two GPUs.
    assert rollout.kv_cache_sequences == (int(GIB * 0.9) - 976) // (16 * 40)


def test_an_actor_with_a_part_of_a_gpu_has_that_part_of_its_memory(tmp_path: Path) -> None:
    changes = {"model.path": write_model(tmp_path), "cluster.learner": {"num_cpus": 1, "num_gpus": 0.25}}
    _, learner = place_on(make_nodes(gpu_gib=1), changes).memory
    assert learner.available == GIB // 4


def test_offloaded_state_leaves_the_gpu_and_must_fit_the_node(tmp_path: Path) -> None:
    # 4 x 10^9 x 8 of embeddings, twice as they are not tied: 64 x 10^9 parameters and a few.
    model = write_model(tmp_path, vocab_size=4_000_000_000, tie_word_embeddings=False)
    changes = {"model.path": model, "rollout.engine.tensor_parallel_size": 4, "learner.num_ranks": 4}
    big = {**changes, "learner.zero": {"offload_optimizer": True}}
    # 12 of 18 bytes leave four GPUs: 96 x 10^9 of 64 x 10^9 x 18 / 4.
    told = refusal(make_nodes(gpu_gib=400), big)
    assert "a node must hold what its 4 learner ranks offload, got 178.8 GiB each and 100.0 GiB on gpu-0" in told


def test_a_learner_that_cannot_fit_is_refused(tmp_path: Path) -> None:
    changes = {"model.path": write_model(tmp_path), "learner.gradient_checkpointing": True}
    # 1,952 x 18 = 35,136 bytes and activations of 8,192 do not fit 40,000.
    message = refusal(make_nodes(gpu_gib=40_000 / GIB), {**changes, "learner.num_ranks": 1})
    assert "a learner GPU must hold its parameters, gradients, optimizer and activations" in message
    assert message.endswith("(learner)")


def test_an_engine_without_room_for_one_sequence_is_refused(tmp_path: Path) -> None:
    message = refusal(make_nodes(gpu_gib=4000 / GIB), {"model.path": write_model(tmp_path)})
    assert "must hold its weights and the KV cache of one longest sequence" in message


def test_memory_that_is_not_known_is_said() -> None:
    placement = place_on(make_nodes())
    assert placement.memory == ()
    assert any("GPU memory is not compared, as the sizes of some/model" in each for each in placement.warnings)


def test_a_learner_that_is_spread_among_engines_is_warned_of() -> None:
    alike = {"cluster.learner": {"num_cpus": 2, "num_gpus": 1}, "rollout.num_workers": 8, "learner.num_ranks": 8}
    spread = place_on(make_nodes(4, gpus=6), {**alike, "cluster.rollout": {"num_cpus": 3, "num_gpus": 1}})
    assert any(each.startswith("learner ranks lie on 2 nodes and share gpu-1 with engines") for each in spread.warnings)


def test_placement_is_told_in_lines_of_120_characters_and_alike_nodes_share_one() -> None:
    placement = place_on(make_nodes(8, cpus=64), {"rollout.num_workers": 48, "learner.num_ranks": 16})
    lines = placement_text(placement).splitlines()
    assert lines[:3] == [
        "  cluster     fits: 8 of 8 nodes, 64 of 64 GPUs, 161 of 512 CPUs",
        "              gpu-0: 8 learner, 1 shaping; 8 of 8 GPUs, 33 of 64 CPUs",
        "              gpu-1: 8 learner; 8 of 8 GPUs, 32 of 64 CPUs",
    ]
    assert lines[3] == "              gpu-2 to gpu-7, each: 8 rollout; 8 of 8 GPUs, 16 of 64 CPUs"
    assert max(map(len, lines)) <= 120


def test_the_command_says_it_in_words_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, copy.deepcopy(CUDA))
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("nodes: [{name: gpu, gpus: 2, cpus: 16, memory_gib: 64, gpu_memory_gib: 80}]")

    def told(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["plan", str(recipe), "--cluster", str(cluster), *more])
        assert not ended.value.code
        return capsys.readouterr().out

    assert "  cluster     fits: 1 of 1 nodes, 2 of 2 GPUs, 7 of 16 CPUs\n" in told()
    as_json = json.loads(told("--json"))
    assert as_json["name"] == "small"
    assert as_json["placement"]["actors"] == {"learner-0": "gpu", "rollout-0": "gpu", "shaping-0": "gpu"}
