"""The receiving end of a process group, against a sender in a thread."""

import asyncio

import pytest
import torch
from engine_cases import Sender, free_port

from rollout.process_group_receiver import ProcessGroupReceiver
from shaping.bucket_header import HEADER_BYTES
from shaping.errors import ChannelBroken
from shaping.training import WeightChannel


def make_channel(*, world_size: int = 2) -> WeightChannel:
    return WeightChannel(backend="gloo", address="127.0.0.1", port=free_port(), world_size=world_size, first_rank=1)


def make_receiver(channel: WeightChannel, *, worker_index: int = 0, timeout_s: float = 20.0) -> ProcessGroupReceiver:
    return ProcessGroupReceiver(channel, worker_index=worker_index, timeout_s=timeout_s, device=torch.device("cpu"))


async def test_every_rank_receives_every_message() -> None:
    channel = make_channel(world_size=3)
    sender = Sender(channel)

    def receive(worker_index: int) -> list[bytes]:
        receiver = make_receiver(channel, worker_index=worker_index)
        sizes = (HEADER_BYTES, 5, HEADER_BYTES, 3, HEADER_BYTES)
        received = [receiver.receive(size, 20.0).tobytes() for size in sizes]
        receiver.close()
        return received

    def send() -> None:
        sender.join()
        sender.send([b"hello", b"abc"], policy_version=1)

    _, *received = await asyncio.gather(
        asyncio.to_thread(send), asyncio.to_thread(receive, 0), asyncio.to_thread(receive, 1)
    )
    assert [each[1::2] for each in received] == [[b"hello", b"abc"]] * 2


def test_a_sender_that_never_comes_ends_the_wait() -> None:
    channel = make_channel()
    with pytest.raises(ChannelBroken, match=f"no weight channel at 127.0.0.1:{channel.port}") as found:
        make_receiver(channel, timeout_s=0.5)
    assert "\n" not in str(found.value)


async def joined() -> tuple[Sender, ProcessGroupReceiver]:
    channel = make_channel()
    sender = Sender(channel)
    _, receiver = await asyncio.gather(asyncio.to_thread(sender.join), asyncio.to_thread(make_receiver, channel))
    return sender, receiver


async def test_a_sender_that_says_nothing_ends_the_wait_in_time() -> None:
    _sender, receiver = await joined()
    with pytest.raises(ChannelBroken, match="Timed out waiting 50ms"):
        await asyncio.to_thread(receiver.receive, HEADER_BYTES, 0.05)


async def test_a_sender_that_leaves_ends_the_wait_at_once() -> None:
    sender, receiver = await joined()
    receiving = asyncio.ensure_future(asyncio.to_thread(receiver.receive, HEADER_BYTES, 20.0))
    sender.leave()
    with pytest.raises(ChannelBroken, match="closed by peer"):
        await receiving


async def test_a_receiver_that_leaves_ends_the_senders_wait() -> None:
    sender, receiver = await joined()
    receiver.close()
    assert not await asyncio.to_thread(sender._sent, torch.zeros(100_000, dtype=torch.uint8).numpy())
    with pytest.raises(ChannelBroken, match="this end has left"):
        receiver.receive(HEADER_BYTES, 1.0)
