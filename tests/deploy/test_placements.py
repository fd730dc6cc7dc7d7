"""Recipes for one, two and eight nodes of eight GPUs: each fits the cluster that it is for, and leaves no GPU idle."""

import json
import re
from pathlib import Path

import pytest
from stack_run import ROOT

from services.placement.described_cluster import read_cluster
from services.placement.place import Placement, place
from services.plan import make_plan
from services.recipe import Recipe, load_recipe

RECIPES, CLUSTERS = ROOT / "deploy" / "recipes", ROOT / "deploy" / "placements"
PLACEMENTS = {
    "qwen2.5-math-1.5b": "1x8",
    "qwen2.5-7b": "1x8",
    "qwen2.5-math-7b": "1x8",
    "qwen2.5-7b-2x8": "2x8",
    "qwen2.5-math-7b-2x8": "2x8",
    "qwen2.5-math-7b-8x8": "8x8",
    "qwen2.5-32b-8x8": "8x8",
}
SIZES = {
    # hidden, intermediate, layers, heads, key-value heads, tied, vocabulary: of the published config.json
    "1.5b": (1536, 8960, 28, 12, 2, True, 151936),
    "7b": (3584, 18944, 28, 28, 4, False, 152064),
    "32b": (5120, 27648, 64, 40, 8, False, 152064),
}
EVERY = pytest.mark.parametrize(("name", "cluster"), PLACEMENTS.items())


def write_model(folder: Path, name: str) -> str:
    """config.json with the sizes of the model that a recipe names by its hub name."""
    size = re.search(r"\d[\d.]*b(?=-|$)", name.removeprefix("qwen2.5-"))
    assert size is not None
    hidden, intermediate, layers, heads, key_value_heads, is_tied, vocabulary = SIZES[size.group()]
    config = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": is_tied,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def placed(name: str, cluster: str, folder: Path) -> tuple[Recipe, Placement]:
    recipe = load_recipe(RECIPES / f"{name}.yaml", {"model.path": write_model(folder, name)})
    return recipe, place(recipe, make_plan(recipe), read_cluster(CLUSTERS / f"{cluster}.yaml"))


@EVERY
def test_a_recipe_fits_its_cluster_and_leaves_no_gpu_idle(name: str, cluster: str, tmp_path: Path) -> None:
    recipe, placement = placed(name, cluster, tmp_path)
    assert recipe.name == name
    assert (placement.idle_gpus, placement.warnings) == (0, ())
    # 8 sequences at a time are the group of one prompt; fewer would have an engine of this size wait for memory.
    [rollout] = [use for use in placement.memory if use.role == "rollout"]
    assert rollout.kv_cache_sequences is not None and rollout.kv_cache_sequences >= recipe.rollout.group_size


@EVERY
def test_a_job_has_a_cpu_left_on_every_node(name: str, cluster: str, tmp_path: Path) -> None:
    """`ray job submit --entrypoint-num-cpus 1` claims one of the head, whichever node that is."""
    _, placement = placed(name, cluster, tmp_path)
    assert all(use.cpus - use.claimed_cpus >= 1 for use in placement.nodes)


@EVERY
def test_on_several_nodes_learner_ranks_lie_together(name: str, cluster: str, tmp_path: Path) -> None:
    recipe, placement = placed(name, cluster, tmp_path)
    with_learner = [use for use in placement.nodes if use.actors.get("learner")]
    if cluster == "1x8":
        assert len(with_learner) == 1
        return
    assert len(with_learner) == recipe.learner.num_ranks / 8
    assert not any(use.actors.get("rollout") for use in with_learner)


def test_every_recipe_for_gpus_is_one_of_these() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} - {"quickstart", "seele-quickstart"} == set(PLACEMENTS)
    assert {path.stem for path in CLUSTERS.glob("*.yaml")} == set(PLACEMENTS.values())
    assert all(name.endswith(cluster) or cluster == "1x8" for name, cluster in PLACEMENTS.items())


def test_memory_of_the_largest_is_what_it_must_be(tmp_path: Path) -> None:
    _, placement = placed("qwen2.5-32b-8x8", "8x8", tmp_path)
    rollout, learner = placement.memory
    # Embeddings 2 x 152,064 x 5,120. A layer: q and o 2 x 5,120^2, k and v 2 x 5,120 x 1,024, MLP 3 x 5,120 x 27,648.
    parameters = 2 * 152_064 * 5_120 + 64 * (2 * 5_120**2 + 2 * 5_120 * 1_024 + 3 * 5_120 * 27_648)
    assert parameters == 32_762_757_120
    assert rollout.state == parameters * 2 // 4  # bfloat16 over four GPUs
    assert learner.state == parameters * 18 // 32
    assert learner.activations == 16_384 * 64 * 5_120 * 2  # one bfloat16 row of each layer for each token
    # A token's keys and values on one of four GPUs: 2 x 64 layers x 2 of 8 heads x 128 numbers x 2 bytes.
    of_a_sequence = 8_192 * 2 * 64 * 2 * 128 * 2
    assert rollout.kv_cache_sequences == (int(79 * 2**30 * 0.85) - rollout.state) // of_a_sequence


def test_the_documentation_names_every_placement() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    for name, cluster in PLACEMENTS.items():
        assert re.search(rf"^\| `{name}` \| `{cluster}` \|", page, re.MULTILINE), name
