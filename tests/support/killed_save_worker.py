"""Saves and removals that are killed at each of their calls to the disk, one after the other; prints what was left.

Arguments: a folder, and "save" or "remove". Each line is JSON: the call that was not made any more, and what a reader
then finds.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from checkpoint_builders import SHARDS, make_store, save_checkpoint, shard_content

from services.checkpoints.store import CheckpointStore
from services.recipe_sections import CheckpointConfig

DISK_CALLS = {"mkdir", "open", "write", "flush", "fsync", "close", "rename", "unlink", "rmdir"}


def dies_before(number: int, action: Callable[[], object]) -> str:
    """Do an action in a process of its own, which is killed before its `number`-th call to the disk, 0-based.

    Returns:
        The call; "" when the action ended before it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0

        def watch(_: FrameType, event: str, function: Any) -> None:
            nonlocal made
            if event == "c_call" and function.__name__ in DISK_CALLS:
                if made == number:
                    os.write(writer, function.__name__.encode())
                    os.kill(os.getpid(), signal.SIGKILL)
                made += 1

        sys.setprofile(watch)
        action()
        sys.setprofile(None)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        call = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if status != (signal.SIGKILL if call else 0):
        raise SystemExit(f"the process ended with status {status} after {call!r}")
    return call


def left_by(store: CheckpointStore, call: str) -> dict[str, Any]:
    """What a reader finds, every byte read; then the next save has to work."""
    found = store.latest()
    assert found is not None
    step = found.checkpoint.manifest.step
    is_whole = found.checkpoint.read_json("run_state.json") == {"step": step} and all(
        (found.checkpoint.path / shard).read_bytes() == shard_content(step, shard) for shard in SHARDS
    )
    steps, num_damaged = [each.manifest.step for each in store.list()], len(store.damaged())
    save_checkpoint(store, 9)
    hidden = [each.name for each in store.root.iterdir() if each.name.startswith(".")]
    return {
        "call": call,
        "latest": step,
        "is_whole": is_whole,
        "steps": steps,
        "num_damaged": num_damaged,
        "hidden_after_next_save": hidden,
    }


def main(folder: Path, what: str) -> None:
    for number in range(10_000):
        store = make_store(folder / str(number))
        save_checkpoint(store, 1)
        if what == "save":
            call = dies_before(number, lambda store=store: save_checkpoint(store, 2))  # type: ignore[misc]
        else:
            save_checkpoint(store, 2)
            config = CheckpointConfig(keep_last=1)
            call = dies_before(number, lambda store=store, config=config: store.retain(config))  # type: ignore[misc]
        sys.stdout.write(json.dumps(left_by(store, call)) + "\n")
        if call == "":
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
