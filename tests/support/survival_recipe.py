"""A recipe for runs that are killed: every role in processes of its own, two of each where two may be, all cheap."""

from pathlib import Path
from typing import Any

from recipe_builders import write_recipe
from toy_policy import toy_changes, write_toy_policy

GROUPS_PER_STEP = 4
MAX_STALENESS = 2
ENDLESS = 100_000

# Near-uniform over ten digits, and barely taught: 0.57 of the groups of 8 have a 7 at their end, for ever.
_CHANGES: dict[str, Any] = {
    "name": "survival",
    "rollout.num_workers": 2,
    "rollout.sampling": {"max_response_tokens": 24},
    "learner.micro_batch_tokens": 512,
    "learner.optimizer": {"learning_rate": 1e-6},
    "run.steps": ENDLESS,
    "run.max_staleness": MAX_STALENESS,
    "run.at_attempt_cap": "wait",
    "run.max_restarts": 20,
    "run.max_worker_restarts": 100,
    "run.dump_groups_per_step": GROUPS_PER_STEP,
    "run.checkpoint": {"every_steps": 2},
    "run.deadlines": {"heartbeat_seconds": 10, "group_seconds": 60, "weights_seconds": 20, "start_seconds": 180},
    "cluster.num_shaping_workers": 2,
    "cluster.rollout": {"num_cpus": 0.5},
    "cluster.shaping": {"num_cpus": 0.25},
    "cluster.learner": {"num_cpus": 0.5},
    "cluster.local_cpus": 2,
    "cluster.object_store_bytes": 100_000_000,
}


def write_survival_recipe(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """An asynchronous run over the toy policy, without an end of its own; returns the recipe's path."""
    policy = write_toy_policy(folder / "policy")
    return write_recipe(folder, toy_changes(str(policy), folder, {**_CHANGES, **(changes or {})}))
