"""One transfer as a receiver sees it: the buckets of a layout in order, and nothing else. Knows no transport."""

import time
from collections.abc import Iterator
from typing import Protocol

from shaping.bucket_header import HEADER_BYTES, check_next, transfer_headers
from shaping.errors import ChannelBroken, EngineRefused
from shaping.memory_channel import ByteArray
from shaping.training import WeightLayout


class BucketReceiver(Protocol):
    """Takes messages in the order in which they were sent; blocks."""

    def receive(self, num_bytes: int, timeout_s: float) -> ByteArray:
        """uint8 [num_bytes] in host memory.

        Raises:
            ChannelBroken: it did not come in time, or the sender has left.
        """
        ...

    def close(self) -> None:
        """Leave the channel: whoever waits for this end learns of it."""
        ...


def received_buckets(
    receiver: BucketReceiver, layout: WeightLayout, *, policy_version: int, timeout_s: float
) -> Iterator[ByteArray]:
    """Every bucket of the layout, uint8 [num_bytes], as it arrives.

    Args:
        timeout_s: of the whole transfer.
    Raises:
        EngineRefused: another bucket came than must come next; the rest of the transfer is left in the channel.
        ChannelBroken: a bucket did not arrive; names it.
    """
    ends_at = time.monotonic() + timeout_s
    for header in transfer_headers(layout, policy_version):
        try:
            check_next(receiver.receive(HEADER_BYTES, ends_at - time.monotonic()).tobytes(), header)
            if not header.is_end:
                yield receiver.receive(header.num_bytes, ends_at - time.monotonic())
        except ChannelBroken as error:
            raise ChannelBroken(f"{header} of version {policy_version} did not arrive: {error}") from error


def check_newer(policy_version: int, served: int) -> None:
    """Refuse a version that is served already, or an older one, before a byte is received.

    Raises:
        EngineRefused: not newer than `served`.
    """
    if policy_version <= served:
        raise EngineRefused(f"a staged version must be newer than {served}, got {policy_version} (weight transfer)")
