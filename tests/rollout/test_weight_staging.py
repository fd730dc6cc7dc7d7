"""Buckets to parameters."""

import torch
import xxhash

from rollout.weight_staging import receive_all, unpack
from shaping.training import BucketLayout, WeightLayout


class Listed:
    """A receiver that has all buckets already."""

    def __init__(self, *buckets: bytes) -> None:
        self.buckets = buckets

    def receive(self, bucket_index: int, num_bytes: int) -> torch.Tensor:
        assert len(self.buckets[bucket_index]) == num_bytes
        return torch.frombuffer(bytearray(self.buckets[bucket_index]), dtype=torch.uint8)

    def close(self) -> None: ...


def test_parameters_follow_each_other_in_a_bucket_without_padding() -> None:
    first, second = torch.arange(6.0).view(2, 3), torch.tensor([7.5])
    third = torch.tensor([[1.5], [2.5], [-3.0]], dtype=torch.bfloat16)
    layout = WeightLayout(
        buckets=(
            BucketLayout(names=("a", "b"), shapes=((2, 3), (1,)), dtype="float32", num_bytes=28),
            BucketLayout(names=("c",), shapes=((3, 1),), dtype="bfloat16", num_bytes=6),
        )
    )
    buckets = (
        first.numpy().tobytes() + second.numpy().tobytes(),
        third.view(torch.uint8).numpy().tobytes(),
    )
    staged = receive_all(Listed(*buckets), layout)
    assert staged.checksums == tuple(xxhash.xxh3_64_hexdigest(each) for each in buckets)
    found = dict(unpack(staged))
    assert list(found) == ["a", "b", "c"]
    for name, expected in (("a", first), ("b", second), ("c", third)):
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected)


def test_a_scalar_parameter_has_one_element() -> None:
    layout = WeightLayout(buckets=(BucketLayout(names=("s",), shapes=((),), dtype="float32", num_bytes=4),))
    staged = receive_all(Listed(torch.tensor(2.0).numpy().tobytes()), layout)
    assert torch.equal(dict(unpack(staged))["s"], torch.tensor(2.0))
