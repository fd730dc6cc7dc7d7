"""A recipe for runs that are killed: every role in processes of its own, two of each where two may be, all cheap."""

from pathlib import Path
from typing import Any

import yaml
from recipe_builders import write_recipe
from stack_run import ROOT
from toy_policy import toy_changes, write_toy_policy

GROUPS_PER_STEP = 4
MAX_STALENESS = 2
ENDLESS = 100_000

_SURVIVES: dict[str, Any] = {
    "name": "survival",
    "rollout.num_workers": 2,
    "rollout.groups_per_step": GROUPS_PER_STEP,
    "shaping.transforms": ["drop_uniform"],
    "run.steps": ENDLESS,
    "run.max_staleness": MAX_STALENESS,
    "run.at_attempt_cap": "wait",
    "run.max_restarts": 1000,
    "run.max_worker_restarts": 1000,
    "run.dump_groups_per_step": GROUPS_PER_STEP,
    "run.checkpoint": {"every_steps": 2},
    "run.deadlines": {"heartbeat_seconds": 10, "group_seconds": 60, "weights_seconds": 30, "start_seconds": 240},
    "cluster.num_shaping_workers": 2,
    "cluster.rollout": {"num_cpus": 0.5},
    "cluster.shaping": {"num_cpus": 0.25},
    "cluster.local_cpus": 3,
}
# Near-uniform over ten digits, and barely taught: the share of groups with a 7 at some response's end stays as it is.
_TOY: dict[str, Any] = {
    "rollout.sampling": {"max_response_tokens": 24},
    "learner.micro_batch_tokens": 512,
    "learner.optimizer": {"learning_rate": 1e-6},
    "cluster.learner": {"num_cpus": 0.5},
    "cluster.object_store_bytes": 100_000_000,
}


def write_toy_survival(folder: Path) -> Path:
    """An asynchronous run without an end over the toy policy: transformers and plain torch; the recipe's path."""
    policy = write_toy_policy(folder / "policy")
    return write_recipe(folder, toy_changes(str(policy), folder, {**_SURVIVES, **_TOY}))


def write_vllm_survival(folder: Path) -> Path:
    """The same over the quickstart's policy: vLLM and two ranks of DeepSpeed ZeRO-3."""
    quickstart = ROOT / "deploy" / "recipes" / "quickstart.yaml"
    raw = yaml.safe_load(quickstart.read_text())
    raw["model"]["path"] = str((quickstart.parent / raw["model"]["path"]).resolve())
    del raw["data"]["evaluation"]
    for key, value in {**_SURVIVES, "rollout.group_size": 4}.items():
        section, name = key.split(".") if "." in key else ("", key)
        (raw[section] if section else raw)[name] = value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path
