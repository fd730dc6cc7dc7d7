"""Answers that take seconds to make, kept up to a number of bytes; the one that was used longest ago goes first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class ByteCache:
    """Args:
    max_bytes: of all values together; a longer value is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.num_bytes = 0

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: bytes) -> None:
        with self._lock:
            self.num_bytes += len(value) - len(self._values.pop(key, b""))
            self._values[key] = value
            while self.num_bytes > self._max_bytes:
                _, gone = self._values.popitem(last=False)
                self.num_bytes -= len(gone)
