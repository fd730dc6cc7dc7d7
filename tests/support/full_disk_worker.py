"""Saves onto a small disk that has one page more free each time, until one fits; prints what became of each.

Argument: a folder on that disk. Each line is JSON: the error, and what a reader then finds.
"""

import json
import os
import sys
from pathlib import Path

from checkpoint_builders import make_facts, make_store, save_checkpoint
from group_file_builders import make_saved_groups

from services.checkpoints.store import CheckpointStore
from services.group_files import write_groups
from shaping.errors import CheckpointError

PAGE = 4096


def save(store: CheckpointStore) -> None:
    """Step 2, as a shaping worker and the orchestrator write it."""
    draft = store.begin(2)
    try:
        groups = write_groups(draft.path / "groups.safetensors", make_saved_groups(2))
    except CheckpointError:
        draft.abandon()
        raise
    draft.write_json("run_state.json", {"text": "x" * 2 * PAGE})
    draft.commit(files=(groups,), facts=make_facts(2))


def fill(disk: Path, num_free: int) -> None:
    """Leave so many pages free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            pass
    os.truncate(filler, filler.stat().st_size - num_free * PAGE)


def main(disk: Path) -> None:
    store = make_store(disk)
    save_checkpoint(store, 1)
    for num_free in range(1_000):
        (disk / "filler").unlink(missing_ok=True)
        fill(disk, num_free)
        error = ""
        try:
            save(store)
        except CheckpointError as caught:
            error = str(caught)
        found = store.latest()
        record = {
            "error": error,
            "latest": found.checkpoint.name if found else "",
            "passed_over": len(found.passed_over) if found else 0,
            "entries": sorted(each.name for each in store.root.iterdir()),
            "num_pages_free": os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize // PAGE,
            "num_pages_free_before": num_free,
        }
        sys.stdout.write(json.dumps(record) + "\n")
        if not error:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
