"""`lessrl plan --cluster` says of a placement what a real Ray does with it."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from stack_run import ROOT

from services.placement.described_cluster import read_cluster
from services.placement.packing import Bundle, pack
from services.placement.place import bundles_of
from services.recipe import load_recipe

WORKER = ROOT / "tests" / "support" / "placement_worker.py"

pytestmark = pytest.mark.stack


def used(bundles: tuple[Bundle, ...], places: list[int]) -> Counter[tuple[tuple[str, int], ...]]:
    """How many nodes hold which actors: Ray numbers nodes that are alike as it likes."""
    nodes = [Counter(each.role for each, at in zip(bundles, places, strict=True) if at == node) for node in set(places)]
    return Counter(tuple(sorted(node.items())) for node in nodes)


@pytest.mark.parametrize(("name", "cluster"), [("qwen2.5-7b-2x8", "2x8"), ("qwen2.5-32b-8x8", "8x8")])
def test_ray_puts_every_actor_where_the_plan_says(name: str, cluster: str, tmp_path: Path) -> None:
    bundles = bundles_of(load_recipe(ROOT / "deploy" / "recipes" / f"{name}.yaml"))
    nodes = read_cluster(ROOT / "deploy" / "placements" / f"{cluster}.yaml")
    asked = {
        "nodes": [[node.cpus, node.gpus] for node in nodes],
        "bundles": [{"CPU": each.cpus, "GPU": each.gpus} for each in bundles],
    }
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, str(WORKER)],
        input=json.dumps(asked),
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = [place for place in pack(bundles, nodes) if place is not None]
    assert used(bundles, json.loads(done.stdout)) == used(bundles, expected)
