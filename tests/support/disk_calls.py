"""What code asks of the disk, in order, and moments at which another process could have come in between."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from services.durable_files import sync, write_synced


@contextmanager
def _watched(watch: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def disk_calls(action: Callable[[], object]) -> list[tuple[str, str]]:
    """What an action waits for, and renames, in order: ("sync", path) and ("rename", "")."""
    waits: set[CodeType] = {sync.__code__, write_synced.__code__}
    calls: list[tuple[str, str]] = []

    def watch(frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and frame.f_code in waits:
            calls.append(("sync", str(frame.f_locals["path"])))
        elif event == "c_call" and function is os.rename:
            calls.append(("rename", ""))

    with _watched(watch):
        action()
    return calls


@contextmanager
def just_before(called: Callable[..., object], action: Callable[[], object]) -> Iterator[None]:
    """Do an action, as another process might, right before a function is called for the first time."""
    code = getattr(called, "__code__", None)
    is_done = False

    def watch(frame: FrameType, event: str, function: Any) -> None:
        nonlocal is_done
        is_call = frame.f_code is code if event == "call" else event == "c_call" and function is called
        if is_call and not is_done:
            is_done = True
            action()

    with _watched(watch):
        yield
    assert is_done, f"{called} was not called"
