"""How a policy's parameters are divided in flat byte buckets: the layout that sender and engines share.

Pure arithmetic on names, shapes and dtypes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shaping.training import AdapterLayout, BucketLayout, WeightLayout

BYTES_PER_ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """Name in the Hugging Face checkpoint, full shape and dtype of one parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * BYTES_PER_ELEMENT[self.dtype]


def bucket_layout(
    parameters: Sequence[ParameterSpec], bucket_bytes: int, *, adapter: AdapterLayout | None = None
) -> WeightLayout:
    """Neighbouring parameters of one dtype share a bucket up to `bucket_bytes`; a larger one has its own."""
    buckets: list[list[ParameterSpec]] = []
    for each in parameters:
        fits = bool(buckets) and (
            buckets[-1][0].dtype == each.dtype
            and sum(member.num_bytes for member in buckets[-1]) + each.num_bytes <= bucket_bytes
        )
        if fits:
            buckets[-1].append(each)
        else:
            buckets.append([each])
    return WeightLayout(
        buckets=tuple(
            BucketLayout(
                names=tuple(each.name for each in members),
                shapes=tuple(each.shape for each in members),
                dtype=members[0].dtype,
                num_bytes=sum(each.num_bytes for each in members),
            )
            for members in buckets
        ),
        adapter=adapter,
    )
