"""Buckets to parameters."""

import numpy as np
import pytest
import torch
import xxhash

from rollout.weight_staging import receive_all, unpack
from shaping.bucket_header import transfer_headers
from shaping.errors import ChannelBroken, EngineRefused
from shaping.memory_channel import ByteArray
from shaping.training import BucketLayout, WeightLayout


class Listed:
    """A receiver that has all messages already."""

    def __init__(self, layout: WeightLayout, *buckets: bytes, policy_version: int = 3) -> None:
        headers = [each.pack() for each in transfer_headers(layout, policy_version)]
        self.messages = [each for pair in zip(headers[:-1], buckets, strict=True) for each in pair] + headers[-1:]
        self.is_open = True

    def receive(self, num_bytes: int, timeout_s: float) -> ByteArray:
        assert 0 < timeout_s <= 10
        if not self.messages:
            raise ChannelBroken("nothing came")
        message = self.messages.pop(0)
        assert len(message) == num_bytes
        return np.frombuffer(bytearray(message), dtype=np.uint8)

    def close(self) -> None:
        self.is_open = False


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
    receiver = Listed(layout, *buckets)
    staged = receive_all(receiver, layout, policy_version=3, timeout_s=10)
    assert receiver.is_open and receiver.messages == []
    assert staged.checksums == tuple(xxhash.xxh3_64_hexdigest(each) for each in buckets)
    found = dict(unpack(staged))
    assert list(found) == ["a", "b", "c"]
    for name, expected in (("a", first), ("b", second), ("c", third)):
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected)


def test_a_scalar_parameter_has_one_element() -> None:
    layout = WeightLayout(buckets=(BucketLayout(names=("s",), shapes=((),), dtype="float32", num_bytes=4),))
    receiver = Listed(layout, torch.tensor(2.0).numpy().tobytes())
    staged = receive_all(receiver, layout, policy_version=3, timeout_s=10)
    assert torch.equal(dict(unpack(staged))["s"], torch.tensor(2.0))


SCALAR = WeightLayout(buckets=(BucketLayout(names=("s",), shapes=((),), dtype="float32", num_bytes=4),))


def test_a_receiver_leaves_the_channel_of_a_transfer_that_it_refuses() -> None:
    receiver = Listed(SCALAR, bytes(4), policy_version=2)
    with pytest.raises(EngineRefused, match="bucket 0 of version 3 must come next, found bucket 0 of version 2"):
        receive_all(receiver, SCALAR, policy_version=3, timeout_s=10)
    assert not receiver.is_open


def test_a_receiver_leaves_a_broken_channel_and_names_the_bucket() -> None:
    receiver = Listed(SCALAR, bytes(4))
    del receiver.messages[1:]
    with pytest.raises(ChannelBroken, match="bucket 0 of version 3 did not arrive: nothing came"):
        receive_all(receiver, SCALAR, policy_version=3, timeout_s=10)
    assert not receiver.is_open


def test_a_transfer_without_its_end_is_not_complete() -> None:
    receiver = Listed(SCALAR, bytes(4))
    del receiver.messages[2:]
    with pytest.raises(ChannelBroken, match="the end of version 3 did not arrive"):
        receive_all(receiver, SCALAR, policy_version=3, timeout_s=10)
