"""The receiving end of a process group, against a sender in a thread."""

import asyncio

import pytest
import torch
from engine_cases import Sender, free_port

from rollout.process_group_receiver import ProcessGroupReceiver
from shaping.training import WeightChannel


async def test_every_rank_receives_every_bucket() -> None:
    channel = WeightChannel(backend="gloo", address="127.0.0.1", port=free_port(), world_size=3, first_rank=1)
    sender = Sender(channel)

    def receive(worker_index: int) -> list[bytes]:
        receiver = ProcessGroupReceiver(channel, worker_index=worker_index, timeout_s=20, device=torch.device("cpu"))
        received = [receiver.receive(index, size).numpy().tobytes() for index, size in enumerate((5, 3))]
        receiver.close()
        return received

    def send() -> None:
        sender.join()
        sender.send([b"hello", b"abc"])

    _, *received = await asyncio.gather(
        asyncio.to_thread(send), asyncio.to_thread(receive, 0), asyncio.to_thread(receive, 1)
    )
    assert received == [[b"hello", b"abc"]] * 2


def test_a_sender_that_never_comes_ends_the_wait() -> None:
    channel = WeightChannel(backend="gloo", address="127.0.0.1", port=free_port(), world_size=2, first_rank=1)
    with pytest.raises(RuntimeError):
        ProcessGroupReceiver(channel, worker_index=0, timeout_s=0.5, device=torch.device("cpu"))
