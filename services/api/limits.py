"""How much one caller, and all of them together, may ask: requests a second, streams at a time, sizes, seconds.

The defaults let one page, one `top` and one Prometheus of the same name be, several times over.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_BUCKETS = 1024
MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Args:
    reads_per_second, writes_per_second: of one caller in the long run.
    read_burst, write_burst: at once, after a rest.
    max_streams: of all callers together.
    request_seconds: longest time until an answer begins; streams have none.
    send_seconds: a client that takes nothing for so long is dropped.
    """

    reads_per_second: float = 20.0
    writes_per_second: float = 2.0
    read_burst: int = 100
    write_burst: int = 20
    max_streams: int = 64
    max_body_bytes: int = 1 << 20
    max_header_bytes: int = 16 << 10
    request_seconds: float = 30.0
    send_seconds: float = 30.0


class TokenBucket:
    """Holds up to `burst` requests, filled at `per_second`.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, per_second: float, burst: int, *, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> float:
        """Take one request out.

        Returns:
            0 where there was one, otherwise the seconds until there is; then nothing was taken.
        """
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._per_second


class Buckets:
    """A bucket for reads and one for writes of each caller; the callers seen longest ago are forgotten."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, bool], TokenBucket] = OrderedDict()

    def take(self, caller: str, *, is_write: bool) -> float:
        """As TokenBucket.take, of this caller's."""
        key = (caller, is_write)
        bucket = self._buckets.get(key) or self._bucket(is_write)
        self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return bucket.take()

    def _bucket(self, is_write: bool) -> TokenBucket:
        limits = self._limits
        if is_write:
            return TokenBucket(limits.writes_per_second, limits.write_burst, clock=self._clock)
        return TokenBucket(limits.reads_per_second, limits.read_burst, clock=self._clock)


class StreamSlots:
    """Streams that are open, up to a number."""

    def __init__(self, max_streams: int) -> None:
        self.max_streams = max_streams
        self.num_open = 0

    def take(self) -> bool:
        """Whether there was a free one; it is to be given back."""
        if self.num_open >= self.max_streams:
            return False
        self.num_open += 1
        return True

    def give_back(self) -> None:
        self.num_open -= 1
