"""What travels ahead of every weight bucket, on every transport, so that a receiver knows which bucket comes.

A transfer is: header, bytes, header, bytes, ..., and the header of the end, which names one bucket more than there are
and has no bytes. Headers all have the same size, since some transports end the process that is sent another size than
it waits for.
"""

import struct
from dataclasses import dataclass

from shaping.errors import EngineRefused
from shaping.training import WeightLayout

_FORMAT = struct.Struct("<8sQIIQ")
_MAGIC = b"lessrl_w"

HEADER_BYTES = _FORMAT.size


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketHeader:
    """Which bucket follows, of which policy version.

    Args:
        bucket_index: 0-based; equal to `num_buckets` for the end.
        num_bytes: of the bucket; 0 for the end.
    """

    policy_version: int
    bucket_index: int
    num_buckets: int
    num_bytes: int

    @property
    def is_end(self) -> bool:
        return self.bucket_index == self.num_buckets

    def pack(self) -> bytes:
        """[HEADER_BYTES] bytes."""
        return _FORMAT.pack(_MAGIC, self.policy_version, self.bucket_index, self.num_buckets, self.num_bytes)

    def __str__(self) -> str:
        return "the end" if self.is_end else f"bucket {self.bucket_index}"


def transfer_headers(layout: WeightLayout, policy_version: int) -> tuple[BucketHeader, ...]:
    """The headers of one transfer in order, the end included."""
    sizes = [*(bucket.num_bytes for bucket in layout.buckets), 0]
    return tuple(
        BucketHeader(policy_version=policy_version, bucket_index=index, num_buckets=len(sizes) - 1, num_bytes=size)
        for index, size in enumerate(sizes)
    )


def check_next(received: bytes, expected: BucketHeader) -> None:
    """Refuse any bucket but the one that must come next.

    Args:
        received: [HEADER_BYTES] bytes as they arrived.
    Raises:
        EngineRefused: names what came: a bucket of another version, one again, one too early, one of another size.
    """
    rule = f"{expected} of version {expected.policy_version} must come next"
    magic, policy_version, bucket_index, num_buckets, num_bytes = _FORMAT.unpack(received)
    if magic != _MAGIC:
        raise EngineRefused(f"{rule}, found bytes that are no bucket header (weight transfer)")
    found = BucketHeader(
        policy_version=policy_version, bucket_index=bucket_index, num_buckets=num_buckets, num_bytes=num_bytes
    )
    if found == expected:
        return
    if found.policy_version != expected.policy_version:
        told = f"{found} of version {found.policy_version}"
    elif found.num_buckets != expected.num_buckets:
        told = f"{found} of {found.num_buckets} buckets instead of {expected.num_buckets}"
    elif found.bucket_index < expected.bucket_index:
        told = f"{found} again"
    elif found.bucket_index > expected.bucket_index:
        told = f"{found}: {expected} is missing"
    else:
        told = f"it with {found.num_bytes} bytes instead of {expected.num_bytes}"
    raise EngineRefused(f"{rule}, found {told} (weight transfer)")
