"""Weights that wait beside the live ones: received, checksummed, unpacked. Knows no engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import xxhash

from shaping.training import WeightLayout

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class BucketReceiver(Protocol):
    """Takes buckets in layout order; blocks, with a deadline of its own."""

    def receive(self, bucket_index: int, num_bytes: int) -> torch.Tensor:
        """uint8 [num_bytes] in host memory."""
        ...

    def close(self) -> None: ...


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


def receive_all(receiver: BucketReceiver, layout: WeightLayout) -> StagedWeights:
    """Receive every bucket of the layout and compute its checksum."""
    buckets = []
    checksums = []
    for index, bucket in enumerate(layout.buckets):
        data = receiver.receive(index, bucket.num_bytes)
        buckets.append(data)
        checksums.append(xxhash.xxh3_64_hexdigest(memoryview(data.numpy())))
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
