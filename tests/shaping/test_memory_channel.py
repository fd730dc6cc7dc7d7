"""The in-process weight channel."""

import threading

import numpy as np
import pytest

from shaping.errors import RunFailed
from shaping.memory_channel import MemoryChannel


def test_every_receiver_gets_every_bucket_in_order() -> None:
    channel = MemoryChannel(num_receivers=2, timeout_s=5)
    channel.send(0, b"abc")
    channel.send(1, np.array([9, 8], dtype=np.uint8))
    for rank in (1, 2):
        receiver = channel.receiver(rank)
        assert receiver.receive(0, 3).tobytes() == b"abc"
        assert receiver.receive(1, 2).tolist() == [9, 8]


def test_a_sender_may_reuse_its_buffer() -> None:
    channel = MemoryChannel(num_receivers=1, timeout_s=5)
    buffer = bytearray(b"old")
    channel.send(0, buffer)
    buffer[:] = b"new"
    assert channel.receiver(1).receive(0, 3).tobytes() == b"old"


def test_a_receiver_waits_for_a_sender_in_another_thread() -> None:
    channel = MemoryChannel(num_receivers=1, timeout_s=20)
    thread = threading.Thread(target=channel.send, args=(0, b"abc"))
    receiver = channel.receiver(1)
    thread.start()
    assert receiver.receive(0, 3).tobytes() == b"abc"
    thread.join()


def test_a_wait_ends_with_an_error() -> None:
    receiver = MemoryChannel(num_receivers=1, timeout_s=0.01).receiver(1)
    with pytest.raises(RunFailed, match=r"no weight bucket 0 within 0\.01 s"):
        receiver.receive(0, 3)


@pytest.mark.parametrize(("index", "size"), [(1, 3), (0, 4)])
def test_a_bucket_out_of_step_is_refused(index: int, size: int) -> None:
    channel = MemoryChannel(num_receivers=1, timeout_s=5)
    channel.send(0, b"abc")
    with pytest.raises(RunFailed, match="found bucket 0 with 3 bytes"):
        channel.receiver(1).receive(index, size)


def test_a_cleared_receiver_starts_anew() -> None:
    channel = MemoryChannel(num_receivers=1, timeout_s=5)
    receiver = channel.receiver(1)
    channel.send(0, b"old")
    receiver.clear()
    channel.send(0, b"new")
    assert receiver.receive(0, 3).tobytes() == b"new"


@pytest.mark.parametrize("rank", [0, 3])
def test_only_ranks_of_the_channel_receive(rank: int) -> None:
    with pytest.raises(ValueError, match=r"must be in \[1, 2\]"):
        MemoryChannel(num_receivers=2).receiver(rank)
