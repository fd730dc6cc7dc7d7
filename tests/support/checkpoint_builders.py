"""Checkpoints for tests: small, with shards as learner ranks would write them."""

from pathlib import Path

from services.checkpoints.store import Checkpoint, CheckpointDraft, CheckpointFacts, CheckpointStore
from shaping.stored_files import StoredFile, stored_file

SHARDS = ("learner/rank-0.bin", "learner/rank-1.bin")


def make_facts(step: int = 1, *, metrics: dict[str, float] | None = None) -> CheckpointFacts:
    return CheckpointFacts(
        policy_version=step,
        run_id="run_1",
        recipe_hash="sha256:00",
        metrics=metrics or {},
        logs={"metrics.jsonl": 100 * step, "ledger.jsonl": 10 * step, "groups.jsonl": 0},
    )


def make_store(folder: Path) -> CheckpointStore:
    """At second 0 of 1970."""
    return CheckpointStore(folder / "checkpoints", clock=lambda: 0.0)


def shard_content(step: int, shard: str) -> bytes:
    return f"{shard} of step {step};".encode() * 500


def write_shards(draft: CheckpointDraft, step: int) -> tuple[StoredFile, ...]:
    """As ranks of their own process would."""
    (draft.path / "learner").mkdir()
    for shard in SHARDS:
        (draft.path / shard).write_bytes(shard_content(step, shard))
    return tuple(stored_file(draft.path, shard) for shard in SHARDS)


def save_checkpoint(store: CheckpointStore, step: int, *, metrics: dict[str, float] | None = None) -> Checkpoint:
    draft = store.begin(step)
    files = write_shards(draft, step)
    draft.write_json("run_state.json", {"step": step})
    return draft.commit(files=files, facts=make_facts(step, metrics=metrics))


def flip_byte(path: Path, position: int, *, mask: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)
