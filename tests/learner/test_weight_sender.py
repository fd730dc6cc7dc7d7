import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from learner.weight_sender import WeightSender, open_sender
from rollout.process_group_receiver import ProcessGroupReceiver
from shaping.bucket_header import HEADER_BYTES, BucketHeader
from shaping.errors import ChannelBroken, RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.training import WeightChannel


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def make_channel(port: int, *, first_rank: int = 0, world_size: int = 2) -> WeightChannel:
    return WeightChannel(backend="gloo", address="127.0.0.1", port=port, world_size=world_size, first_rank=first_rank)


def make_header(index: int, num_bytes: int, *, num_buckets: int = 2) -> BucketHeader:
    return BucketHeader(policy_version=4, bucket_index=index, num_buckets=num_buckets, num_bytes=num_bytes)


def make_receiver(port: int, *, rank: int = 1, world_size: int = 2) -> ProcessGroupReceiver:
    channel = make_channel(port, first_rank=rank, world_size=world_size)
    return ProcessGroupReceiver(channel, worker_index=0, timeout_s=20, device=torch.device("cpu"))


def test_every_receiver_gets_every_bucket_behind_its_header() -> None:
    port = free_port()
    buckets = [torch.arange(5, dtype=torch.uint8), torch.full((300_000,), 7, dtype=torch.uint8)]
    headers = [make_header(0, 5), make_header(1, 300_000), make_header(2, 0)]

    def receive(rank: int) -> list[bytes]:
        receiver = make_receiver(port, rank=rank, world_size=3)
        sizes = (HEADER_BYTES, 5, HEADER_BYTES, 300_000, HEADER_BYTES)
        return [receiver.receive(size, 20.0).tobytes() for size in sizes]

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(receive, rank) for rank in (1, 2)]
        sender = open_sender(make_channel(port, world_size=3), None, 20)
        for header, bucket in zip(headers, [*buckets, None], strict=True):
            sender.send(header, bucket, 20.0)
        received = [future.result(timeout=20) for future in futures]
    sender.close()
    for each in received:
        assert each[0::2] == [header.pack() for header in headers]
        assert each[1::2] == [bucket.numpy().tobytes() for bucket in buckets]


async def joined(port: int) -> tuple[WeightSender, ProcessGroupReceiver]:
    sender, receiver = await asyncio.gather(
        asyncio.to_thread(open_sender, make_channel(port), None, 20), asyncio.to_thread(make_receiver, port)
    )
    return sender, receiver


async def test_a_bucket_that_nobody_takes_is_given_up_in_time_and_named() -> None:
    sender, _receiver = await joined(free_port())
    data = torch.zeros(30_000_000, dtype=torch.uint8)
    with pytest.raises(ChannelBroken, match=r"bucket 1 of version 4 was not received: .*Timed out waiting") as found:
        await asyncio.to_thread(sender.send, make_header(1, 30_000_000), data, 0.1)
    assert "\n" not in str(found.value)


async def test_a_receiver_that_has_left_ends_the_wait_of_the_sender() -> None:
    sender, receiver = await joined(free_port())
    receiver.close()
    with pytest.raises(ChannelBroken, match="bucket 0 of version 4 was not received"):
        for _ in range(10):
            await asyncio.to_thread(sender.send, make_header(0, 300_000), torch.zeros(300_000, dtype=torch.uint8), 20.0)


async def test_a_sender_that_has_left_ends_the_wait_of_a_receiver_and_sends_no_more() -> None:
    sender, receiver = await joined(free_port())
    receiving = asyncio.ensure_future(asyncio.to_thread(receiver.receive, HEADER_BYTES, 20.0))
    sender.close()
    with pytest.raises(ChannelBroken):
        await receiving
    with pytest.raises(ChannelBroken, match="the sender has left"):
        sender.send(make_header(0, 1), torch.zeros(1, dtype=torch.uint8), 1.0)


def test_a_memory_sender_sends_header_and_bucket_and_leaves() -> None:
    memory = MemoryChannel()
    port = memory.open(1)
    sender = open_sender(WeightChannel(backend="memory", address="", port=port, world_size=2), memory, 1)
    receiver = memory.receiver(port, 1)
    sender.send(make_header(0, 3), torch.tensor([1, 2, 3], dtype=torch.uint8), 1.0)
    sender.send(make_header(1, 0, num_buckets=1), None, 1.0)
    assert receiver.receive(HEADER_BYTES, 1.0).tobytes() == make_header(0, 3).pack()
    assert receiver.receive(3, 1.0).tolist() == [1, 2, 3]
    assert receiver.receive(HEADER_BYTES, 1.0).tobytes() == make_header(1, 0, num_buckets=1).pack()
    sender.close()
    with pytest.raises(ChannelBroken, match="the sender has left"):
        receiver.receive(HEADER_BYTES, 20.0)


def test_receivers_that_never_come_are_one_clear_error() -> None:
    port = free_port()
    with pytest.raises(ChannelBroken, match=f"the weight channel at 127.0.0.1:{port} did not open") as found:
        open_sender(make_channel(port), None, 0.5)
    assert "\n" not in str(found.value)


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ChannelBroken, match=f"127.0.0.1:{port} did not open"):
            open_sender(make_channel(port), None, 0.5)


def test_a_memory_channel_needs_its_object() -> None:
    channel = WeightChannel(backend="memory", address="", port=0, world_size=2)
    with pytest.raises(RunFailed, match="needs its MemoryChannel"):
        open_sender(channel, None, 1)
