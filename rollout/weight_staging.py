"""Weights that wait beside the live ones: received, checksummed, unpacked. Knows no engine."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import xxhash

from rollout.bucket_stream import BucketReceiver, received_buckets
from shaping.training import WeightLayout

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedWeights:
    """All buckets of one policy version in host memory.

    Args:
        buckets: uint8 [num_bytes] each.
        checksums: xxh3_64 hex digest of each bucket as it arrived.
    """

    layout: WeightLayout
    buckets: tuple[torch.Tensor, ...]
    checksums: tuple[str, ...]


def receive_all(
    receiver: BucketReceiver, layout: WeightLayout, *, policy_version: int, timeout_s: float
) -> StagedWeights:
    """Receive every bucket of the layout and compute its checksum.

    A receiver that cannot go on leaves the channel, so that neither the sender nor another receiver waits for it.

    Args:
        timeout_s: of the whole transfer.
    Raises:
        EngineRefused: another bucket came than must come next.
        ChannelBroken: a bucket did not arrive.
    """
    buckets = []
    checksums = []
    try:
        for data in received_buckets(receiver, layout, policy_version=policy_version, timeout_s=timeout_s):
            buckets.append(torch.from_numpy(data))
            checksums.append(xxhash.xxh3_64_hexdigest(data.data))
    except BaseException:
        receiver.close()
        raise
    return StagedWeights(layout=layout, buckets=tuple(buckets), checksums=tuple(checksums))


def unpack(staged: StagedWeights) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of every parameter, in layout order; views of the buckets where alignment allows."""
    for bucket, data in zip(staged.layout.buckets, staged.buckets, strict=True):
        dtype = DTYPES[bucket.dtype]
        start = 0
        for name, shape in zip(bucket.names, bucket.shapes, strict=True):
            size = torch.Size(shape).numel() * dtype.itemsize
            yield name, data[start : start + size].view(dtype).view(shape)
            start += size
