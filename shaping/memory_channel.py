"""Weight messages inside one process: the learner sends, every engine receives, nothing leaves memory.

The sending side is one thread, each receiver another; no torch and no process group. It knows nothing of what the
bytes mean. Sender and receivers meet at a port, as on a network: every meeting has a new one, with nothing left in it
from a meeting before.
"""

import queue

import numpy as np
from numpy.typing import NDArray

from shaping.errors import ChannelBroken

ByteArray = NDArray[np.uint8]


class MemoryChannel:
    """One sender (rank 0) to some receivers (ranks 1 and up). Safe between threads."""

    def __init__(self) -> None:
        self._port = 0
        self._queues: tuple[queue.SimpleQueue[ByteArray | None], ...] = ()

    def open(self, num_receivers: int) -> int:
        """The port of a new meeting; whoever still waits in the one before is told that it is over.

        Args:
            num_receivers: engines that each get every message.
        """
        if num_receivers < 1:
            raise ValueError(f"num_receivers must be >= 1, got {num_receivers} (MemoryChannel)")
        self.close(self._port)
        self._port += 1
        self._queues = tuple(queue.SimpleQueue() for _ in range(num_receivers))
        return self._port

    def send(self, port: int, data: bytes | bytearray | memoryview | ByteArray) -> None:
        """Hand one message to every receiver. The bytes are copied once, so the sender may reuse its buffer.

        Args:
            data: uint8 array [num_bytes], or any contiguous buffer.
        Raises:
            ChannelBroken: the meeting is over.
        """
        if port != self._port or not self._queues:
            raise ChannelBroken(f"the meeting at port {port} is over (memory channel)")
        copied = np.array(np.frombuffer(data, dtype=np.uint8))
        for each in self._queues:
            each.put(copied)

    def receiver(self, port: int, rank: int) -> "MemoryReceiver":
        """The receiving end of one rank.

        Args:
            rank: 1 to num_receivers, as in `WeightChannel.first_rank`.
        Raises:
            ValueError: no such rank.
            ChannelBroken: the meeting is over.
        """
        if port != self._port:
            raise ChannelBroken(f"the meeting at port {port} is over (memory channel)")
        if not 1 <= rank <= len(self._queues):
            raise ValueError(f"receiver rank must be in [1, {len(self._queues)}], got {rank} (MemoryChannel)")
        return MemoryReceiver(self._queues[rank - 1])

    def close(self, port: int) -> None:
        """End a meeting: its receivers get what was sent, and then learn that no more comes."""
        if port == self._port:
            for each in self._queues:
                each.put(None)
            self._queues = ()


class MemoryReceiver:
    """The receiving end of one meeting; blocks, so call it from a thread that may wait."""

    def __init__(self, messages: "queue.SimpleQueue[ByteArray | None]") -> None:
        self._messages = messages

    def receive(self, num_bytes: int, timeout_s: float) -> ByteArray:
        """The next message, uint8 [num_bytes]; shared with the other receivers, so not to be written to.

        Raises:
            ChannelBroken: nothing came in time, the meeting is over, or the message has another size.
        """
        try:
            data = self._messages.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            raise ChannelBroken(f"nothing came within {timeout_s:.3g} s (memory channel)") from None
        if data is None:
            self._messages.put(None)
            raise ChannelBroken("the sender has left (memory channel)")
        if len(data) != num_bytes:
            raise ChannelBroken(f"{num_bytes} bytes must come next, found {len(data)} (memory channel)")
        return data

    def close(self) -> None:
        """Nothing to give back."""
