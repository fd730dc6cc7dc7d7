"""What of a recipe may change when a run goes on from a checkpoint.

What may: how long it goes on, where and how fast it runs, what it tolerates, watches and writes down. What may not: all
that decides what is sampled, how it is shaped and what is learned. Schedules have lengths of their own, which do not
move with `run.steps`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.recipe import Recipe
from shaping.errors import RecipeError

MAY_CHANGE = (
    *("cluster", "control", "evaluation.every_steps", "evaluation.num_workers"),
    *("run.steps", "run.deadlines", "run.checkpoint", "run.dump_groups_per_step", "run.loggers"),
    *("run.admission.max_buffered_groups", "run.group_attempts", "run.max_worker_restarts", "run.max_restarts"),
    *("run.max_skipped_steps", "run.max_mismatch_nats", "run.max_canary_nats", "run.max_no_verdict_share"),
    "shaping.verifiers",
    *("rollout.num_workers", "rollout.engine.tensor_parallel_size", "rollout.engine.max_num_seqs"),
    *("rollout.engine.kv_cache_bytes", "rollout.engine.gpu_memory_utilization", "rollout.engine.enforce_eager"),
    *("learner.num_ranks", "learner.micro_batch_tokens", "learner.logprob_chunk_tokens", "learner.bucket_bytes"),
    *("learner.gradient_checkpointing", "learner.zero"),
)
"""Keys, or sections with all below them. Some move the rounding: a run is then not the same bit for bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """One key of a recipe that a run went on with another value of."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before!r} -> {self.after!r}"


def changes_on_resume(before: Recipe, after: Recipe) -> tuple[KeyChange, ...]:
    """Compare the recipe of a checkpoint with the one that a run is to go on with.

    Returns:
        What changes, by key.
    Raises:
        RecipeError: a key that must stay as it was.
    """
    changes = tuple(_differences(before.as_dict(), after.as_dict(), ""))
    refused = [str(each) for each in changes if not may_change(each.key)]
    if refused:
        raise RecipeError(
            f"a run must go on with the recipe that it began with, found other values of {'; '.join(refused)}; set "
            "them back, or begin a new run; live keys can change while the run goes on (docs/control.md)"
        )
    return changes


def may_change(key: str) -> bool:
    """Whether a run may go on from a checkpoint with another value of this key."""
    return any(key == each or key.startswith(f"{each}.") for each in MAY_CHANGE)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> list[KeyChange]:
    found: list[KeyChange] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(KeyChange(key=f"{prefix}{name}", before=old, after=new))
    return found
