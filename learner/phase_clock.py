"""Where a learner step's time goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Wall seconds per phase, summed. On a GPU a phase ends when its kernels have ended."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._is_gpu = device.type == "cuda"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block towards `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            if self._is_gpu:
                torch.cuda.synchronize()
            self.seconds[name] += time.perf_counter() - began
