"""The in-process weight channel."""

import threading

import numpy as np
import pytest

from shaping.errors import ChannelBroken
from shaping.memory_channel import MemoryChannel


def test_every_receiver_gets_every_message_in_order() -> None:
    channel = MemoryChannel()
    port = channel.open(2)
    channel.send(port, b"abc")
    channel.send(port, np.array([9, 8], dtype=np.uint8))
    for rank in (1, 2):
        receiver = channel.receiver(port, rank)
        assert receiver.receive(3, 5.0).tobytes() == b"abc"
        assert receiver.receive(2, 5.0).tolist() == [9, 8]


def test_a_sender_may_reuse_its_buffer() -> None:
    channel = MemoryChannel()
    port = channel.open(1)
    buffer = bytearray(b"old")
    channel.send(port, buffer)
    buffer[:] = b"new"
    assert channel.receiver(port, 1).receive(3, 5.0).tobytes() == b"old"


def test_a_receiver_waits_for_a_sender_in_another_thread() -> None:
    channel = MemoryChannel()
    port = channel.open(1)
    thread = threading.Thread(target=channel.send, args=(port, b"abc"))
    receiver = channel.receiver(port, 1)
    thread.start()
    assert receiver.receive(3, 20.0).tobytes() == b"abc"
    thread.join()


def test_a_wait_ends_with_an_error() -> None:
    channel = MemoryChannel()
    receiver = channel.receiver(channel.open(1), 1)
    with pytest.raises(ChannelBroken, match=r"nothing came within 0\.01 s"):
        receiver.receive(3, 0.01)


def test_a_message_of_another_size_is_refused() -> None:
    channel = MemoryChannel()
    port = channel.open(1)
    channel.send(port, b"abc")
    with pytest.raises(ChannelBroken, match="4 bytes must come next, found 3"):
        channel.receiver(port, 1).receive(4, 5.0)


def test_a_new_meeting_holds_nothing_of_the_one_before() -> None:
    channel = MemoryChannel()
    first = channel.open(1)
    channel.send(first, b"old")
    second = channel.open(1)
    channel.send(second, b"new")
    assert channel.receiver(second, 1).receive(3, 5.0).tobytes() == b"new"


def test_whoever_is_still_in_the_meeting_before_learns_that_it_is_over() -> None:
    channel = MemoryChannel()
    port = channel.open(1)
    receiver = channel.receiver(port, 1)
    channel.send(port, b"abc")
    channel.open(2)
    assert receiver.receive(3, 5.0).tobytes() == b"abc"
    for _ in range(2):
        with pytest.raises(ChannelBroken, match="the sender has left"):
            receiver.receive(3, 20.0)
    with pytest.raises(ChannelBroken, match="port 1 is over"):
        channel.send(port, b"abc")
    with pytest.raises(ChannelBroken, match="port 1 is over"):
        channel.receiver(port, 1)


def test_a_closed_meeting_ends_every_wait() -> None:
    channel = MemoryChannel()
    port = channel.open(2)
    receivers = [channel.receiver(port, rank) for rank in (1, 2)]
    channel.close(port)
    channel.close(port)
    for receiver in receivers:
        with pytest.raises(ChannelBroken, match="the sender has left"):
            receiver.receive(3, 20.0)
    with pytest.raises(ChannelBroken, match="is over"):
        channel.send(port, b"abc")


@pytest.mark.parametrize("rank", [0, 3])
def test_only_ranks_of_the_channel_receive(rank: int) -> None:
    channel = MemoryChannel()
    with pytest.raises(ValueError, match=r"must be in \[1, 2\]"):
        channel.receiver(channel.open(2), rank)


def test_a_channel_without_receivers_is_refused() -> None:
    with pytest.raises(ValueError, match="num_receivers must be >= 1, got 0"):
        MemoryChannel().open(0)
