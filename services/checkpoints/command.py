"""`lessrl checkpoints`: what a run can go on from, in the terminal; verify, pin and unpin."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.checkpoints.store import Checkpoint, CheckpointStore
from services.run_dir import CHECKPOINTS_DIR
from shaping.errors import CheckpointError, UserError

ACTIONS = ("list", "pin", "unpin", "verify")


def checkpoints(run_dir: Path, action: str, name: str, console: Console) -> int:
    """Do one action on the checkpoints of a run; the run may go on meanwhile.

    Args:
        action: "list", "pin", "unpin" or "verify".
        name: of a checkpoint; "" for all of them, where the action is to list or to verify.
    Returns:
        The exit code: 1 when a checkpoint that was verified is damaged.
    Raises:
        UserError: no run, no such action, no such checkpoint.
    """
    if action not in ACTIONS:
        raise UserError(f"what to do must be one of {', '.join(ACTIONS)}, got {action!r}")
    if not run_dir.is_dir():
        raise UserError(f"RUN_DIR must be a run's directory, found none ({run_dir})")
    if not name and action in ("pin", "unpin"):
        raise UserError(f"`lessrl checkpoints {run_dir} {action}` must name a checkpoint; without a word it lists them")
    store = CheckpointStore(run_dir / CHECKPOINTS_DIR)
    if action == "verify":
        return _verify(store, name, console)
    if action == "list":
        _print(store, console)
        return 0
    try:
        store.pin(name) if action == "pin" else store.unpin(name)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    console.print(Text(f"{name} is {action}ned"), soft_wrap=True)
    return 0


def _verify(store: CheckpointStore, name: str, console: Console) -> int:
    """Read every byte of one checkpoint, or of all."""
    damaged = {each.name: each.reason for each in store.damaged()}
    there = [*damaged, *(each.name for each in store.list())]
    if name and name not in there:
        raise UserError(
            f"a checkpoint must be one of {', '.join(sorted(there)) or 'none'}, got {name!r} ({store.root})"
        )
    for each in store.list():
        if name in ("", each.name):
            try:
                each.verify()
                console.print(Text(f"{each.name}: {len(each.manifest.files)} files are as they were written"))
            except CheckpointError as error:
                damaged[each.name] = str(error)
    asked = [broken for broken in damaged if name in ("", broken)]
    for broken in asked:
        console.print(Text(f"{broken}: damaged: {damaged[broken]}"), soft_wrap=True)
    return 1 if asked else 0


def _print(store: CheckpointStore, console: Console) -> None:
    whole, damaged = store.list(), store.damaged()
    if not whole and not damaged:
        console.print(Text(f"no checkpoints ({store.root})"), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("checkpoint", "version", "written (UTC)", "size", "accuracy", ""):
        table.add_column(heading, no_wrap=True)
    for each in whole:
        table.add_row(*_row(each))
    console.print(table)
    for broken in damaged:
        console.print(Text(f"{broken.name}: damaged: {broken.reason}"), soft_wrap=True)


def _row(checkpoint: Checkpoint) -> tuple[str | Text, ...]:
    manifest = checkpoint.manifest
    accuracy = manifest.metrics.get("accuracy")
    return (
        checkpoint.name,
        str(manifest.policy_version),
        manifest.created_at.removesuffix("+00:00").replace("T", " "),
        f"{manifest.num_bytes / 1e6:.1f} MB",
        "-" if accuracy is None else f"{accuracy:.3f}",
        _marks(checkpoint),
    )


def _marks(checkpoint: Checkpoint) -> Text:
    """Whether it is pinned, and a user's words for it, of which a terminal obeys none."""
    tag = "".join(each if each.isprintable() else "?" for each in checkpoint.tag)
    return Text(", ".join(each for each in ("pinned" if checkpoint.is_pinned else "", tag) if each))
