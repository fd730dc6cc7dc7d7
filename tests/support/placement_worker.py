"""Asks a real Ray, of nodes that only claim to have GPUs, where it puts the bundles of a run.

A program: nodes and bundles as JSON on standard input; on standard output the index of the node of each bundle.
"""

import json
import sys
import tempfile

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, placement_group_table

READY_SECONDS = 60.0


def main() -> None:
    asked = json.load(sys.stdin)
    # Folders of their own: the shared one names the cluster that other programs of this machine connect to.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        cluster = Cluster()
        try:
            ids: list[str] = []
            for cpus, gpus in asked["nodes"]:
                node = cluster.add_node(
                    num_cpus=cpus,
                    num_gpus=gpus,
                    object_store_memory=100_000_000,
                    include_dashboard=False,
                    temp_dir=f"{folder}/{len(ids)}",
                )
                ids.append(node.node_id)
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
            group = placement_group([{name: n for name, n in each.items() if n} for each in asked["bundles"]])
            ray.get(group.ready(), timeout=READY_SECONDS)
            chosen = placement_group_table(group)["bundles_to_node_id"]
            sys.stdout.write(json.dumps([ids.index(chosen[index]) for index in range(len(chosen))]))
        finally:
            ray.shutdown()
            cluster.shutdown()


if __name__ == "__main__":
    main()
