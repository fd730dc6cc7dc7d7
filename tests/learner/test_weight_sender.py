import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from learner.weight_sender import open_sender
from rollout.process_group_receiver import ProcessGroupReceiver
from shaping.errors import RunFailed
from shaping.training import WeightChannel


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def make_channel(port: int, *, first_rank: int = 0, world_size: int = 2) -> WeightChannel:
    return WeightChannel(backend="gloo", address="127.0.0.1", port=port, world_size=world_size, first_rank=first_rank)


def test_every_receiver_gets_every_bucket_in_order() -> None:
    port = free_port()
    buckets = [torch.arange(5, dtype=torch.uint8), torch.full((300_000,), 7, dtype=torch.uint8)]

    def receive(rank: int) -> list[torch.Tensor]:
        receiver = ProcessGroupReceiver(
            make_channel(port, first_rank=rank, world_size=3),
            worker_index=0,
            timeout_s=20,
            device=torch.device("cpu"),
        )
        return [receiver.receive(index, len(bucket)) for index, bucket in enumerate(buckets)]

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(receive, rank) for rank in (1, 2)]
        sender = open_sender(make_channel(port, world_size=3), None, 20)
        for index, bucket in enumerate(buckets):
            sender.send(index, bucket)
        received = [future.result(timeout=20) for future in futures]
    sender.close()
    for each in received:
        assert all(torch.equal(found, sent) for found, sent in zip(each, buckets, strict=True))


def test_receivers_that_never_come_are_one_clear_error() -> None:
    port = free_port()
    with pytest.raises(RunFailed, match=f"the weight channel at 127.0.0.1:{port} did not open") as found:
        open_sender(make_channel(port), None, 0.5)
    assert found.value.role == "learner"
    assert "\n" not in str(found.value)


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunFailed, match=f"127.0.0.1:{port} did not open"):
            open_sender(make_channel(port), None, 0.5)


def test_a_memory_channel_needs_its_object() -> None:
    channel = WeightChannel(backend="memory", address="", port=0, world_size=2)
    with pytest.raises(RunFailed, match="needs its MemoryChannel"):
        open_sender(channel, None, 1)
