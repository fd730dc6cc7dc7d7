"""Weight buckets inside one process: the learner sends, every engine receives, nothing leaves memory.

The sending side is one thread, each receiver another; no torch and no process group. It knows nothing of what the
bytes mean.
"""

import queue

import numpy as np
from numpy.typing import NDArray

from shaping.errors import RunFailed

ByteArray = NDArray[np.uint8]


class MemoryChannel:
    """One sender (rank 0) to `num_receivers` receivers (ranks 1 and up). Safe between threads.

    Args:
        num_receivers: engines that each get every bucket.
        timeout_s: longest wait of a receiver for one bucket.
    """

    def __init__(self, *, num_receivers: int, timeout_s: float = 120.0) -> None:
        if num_receivers < 1:
            raise ValueError(f"num_receivers must be >= 1, got {num_receivers} (MemoryChannel)")
        self._timeout_s = timeout_s
        self._queues = tuple(queue.SimpleQueue[tuple[int, ByteArray]]() for _ in range(num_receivers))

    def send(self, bucket_index: int, data: bytes | bytearray | memoryview | ByteArray) -> None:
        """Hand one bucket to every receiver. The bytes are copied once, so the sender may reuse its buffer.

        Args:
            bucket_index: its position in the weight layout.
            data: uint8 array [num_bytes], or any contiguous buffer.
        """
        copied = np.array(np.frombuffer(data, dtype=np.uint8))
        for each in self._queues:
            each.put((bucket_index, copied))

    def receiver(self, rank: int) -> "MemoryReceiver":
        """The receiving end of one rank.

        Args:
            rank: 1 to num_receivers, as in `WeightChannel.first_rank`.
        Raises:
            ValueError: no such rank.
        """
        if not 1 <= rank <= len(self._queues):
            raise ValueError(f"receiver rank must be in [1, {len(self._queues)}], got {rank} (MemoryChannel)")
        return MemoryReceiver(self._queues[rank - 1], self._timeout_s)


class MemoryReceiver:
    """The receiving end of a MemoryChannel; blocks, so call it from a thread that may wait."""

    def __init__(self, buckets: "queue.SimpleQueue[tuple[int, ByteArray]]", timeout_s: float) -> None:
        self._buckets = buckets
        self._timeout_s = timeout_s

    def receive(self, bucket_index: int, num_bytes: int) -> ByteArray:
        """The next bucket, uint8 [num_bytes]; shared with the other receivers, so not to be written to.

        Raises:
            RunFailed: nothing came in time, or the bucket is not the one that the layout names next.
        """
        try:
            index, data = self._buckets.get(timeout=self._timeout_s)
        except queue.Empty:
            raise RunFailed(
                role="rollout", cause=f"no weight bucket {bucket_index} within {self._timeout_s:g} s (memory channel)"
            ) from None
        if index != bucket_index or len(data) != num_bytes:
            raise RunFailed(
                role="rollout",
                cause=f"weight bucket {bucket_index} must come next with {num_bytes} bytes, found bucket {index} with "
                f"{len(data)} bytes (memory channel)",
            )
        return data

    def clear(self) -> None:
        """Forget buckets that wait; for an aborted transfer."""
        while not self._buckets.empty():
            try:
                self._buckets.get_nowait()
            except queue.Empty:
                return
