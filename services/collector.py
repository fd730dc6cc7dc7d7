"""Python's cyclic garbage collector, set for a process that holds many records and makes few cycles.

With its defaults it walks every group in flight again and again: at a thousand workers that is half of what the
orchestrator does.
"""

import contextlib
import gc
from collections.abc import Iterator

THRESHOLDS = (500_000, 20, 100)


@contextlib.contextmanager
def collected_rarely() -> Iterator[None]:
    """Leave alone what exists now, and look at younger objects only once many have been made."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
