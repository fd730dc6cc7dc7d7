"""The law of the ledger, out of the files of a run that ended: every prompt once, trained or dropped with a reason."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from stack_run import read_lines

from services.checkpoints.store import CheckpointStore


def check_ledger(run_dir: Path, *, num_steps: int, groups_per_step: int) -> Counter[str]:
    """Every group that was ever admitted is in the ledger once, or open in the run's last checkpoint.

    Returns:
        Groups by outcome.
    """
    ledger, open_groups = read_lines(run_dir / "ledger.jsonl"), _open_groups(run_dir, num_steps)
    ordinals = [each["ordinal"] for each in (*ledger, *open_groups)]
    assert len(set(ordinals)) == len(ordinals), f"twice: {_repeated(ordinals)}"
    missing = set(range(_num_admitted(run_dir, num_steps))) ^ set(ordinals)
    assert not missing, f"neither ended nor under way: {sorted(missing)}"

    trained = Counter(each["step"] for each in ledger if each["outcome"] == "trained")
    assert trained == dict.fromkeys(range(1, num_steps + 1), groups_per_step)
    outcomes = Counter(str(each["outcome"]) for each in ledger)
    assert all(each == "trained" or each.startswith("dropped_") for each in outcomes), outcomes

    visits: dict[str, list[int]] = {}
    for each in (*ledger, *open_groups):
        visits.setdefault(each["prompt_id"], []).append(each["visit"])
    for prompt_id, found in visits.items():
        assert sorted(found) == list(range(1, len(found) + 1)), f"visits of {prompt_id}: {sorted(found)}"

    steps = [each["step"] for each in read_lines(run_dir / "metrics.jsonl") if each["kind"] == "step"]
    assert steps == list(range(1, num_steps + 1)), "every step is reported once, in order"
    return outcomes


def check_staleness(run_dir: Path, *, max_staleness: int) -> Counter[int]:
    """No group was sampled with weights older than the bound, or newer than any that were published.

    Returns:
        Groups by staleness; a run that dumps all its groups shows all that were trained.
    """
    trained_at = {
        each["group_id"]: each["step"] for each in read_lines(run_dir / "ledger.jsonl") if each["outcome"] == "trained"
    }
    found: Counter[int] = Counter()
    for each in read_lines(run_dir / "groups.jsonl"):
        if each["group_id"] in trained_at:
            found[trained_at[each["group_id"]] - 1 - each["policy_version"]] += 1
    assert sum(found.values()) >= len(trained_at), "every trained group was dumped"
    assert all(0 <= each <= max_staleness for each in found), found
    return found


def _checkpoint(run_dir: Path, step: int) -> dict[str, Any]:
    """Of the last moment of a step that was saved."""
    moments = [each for each in CheckpointStore(run_dir / "checkpoints").list() if each.manifest.step == step]
    state: dict[str, Any] = json.loads((moments[-1].path / "run_state.json").read_text())
    return state


def _open_groups(run_dir: Path, step: int) -> list[dict[str, Any]]:
    state = _checkpoint(run_dir, step)
    return [*state["in_flight"], *state["buffered"]]


def _num_admitted(run_dir: Path, step: int) -> int:
    number: int = _checkpoint(run_dir, step)["buffer"]["next_ordinal"]
    return number


def _repeated(values: list[int]) -> list[int]:
    return [value for value, count in Counter(values).items() if count > 1]
