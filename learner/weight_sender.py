"""The learner's end of the weight channel: rank 0 broadcasts each bucket once, as bytes, behind its header.

The convention, shared with the engines: a TCPStore at the channel's address, hosted here; PrefixStore "lessrl_weights";
a process group made directly, without touching the global one; uint8 broadcasts from root 0: a header and its bucket
for every bucket in layout order, then the header of the end; parameters concatenated in order, C-contiguous, without
padding.
"""

import time
from datetime import timedelta
from typing import Protocol

import torch
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroup, ProcessGroupGloo, TCPStore

from learner.deepspeed_env import is_loopback
from shaping.bucket_header import BucketHeader
from shaping.errors import ChannelBroken, RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.training import WeightChannel

STORE_PREFIX = "lessrl_weights"


class WeightSender(Protocol):
    """Sends buckets in layout order."""

    def send(self, header: BucketHeader, data: torch.Tensor | None, timeout_s: float) -> None:
        """Send one bucket.

        Args:
            data: uint8 [num_bytes], on the CPU or the group's GPU; None where the header is that of the end.
        Raises:
            ChannelBroken: a receiver has left, or did not take it in time.
        """
        ...

    def close(self) -> None:
        """Leave the channel: receivers that wait learn of it."""
        ...


class GroupSender:
    """Broadcast over gloo (CPU) or NCCL (GPU).

    Raises:
        ChannelBroken: not every receiver joined in time, or the port is taken.
    """

    _group: ProcessGroup | None

    def __init__(self, channel: WeightChannel, timeout_s: float) -> None:
        timeout = timedelta(seconds=timeout_s)
        try:
            self._store = TCPStore(
                channel.address, channel.port, channel.world_size, True, timeout=timeout, wait_for_workers=False
            )
            self._group = _process_group(channel, PrefixStore(STORE_PREFIX, self._store), timeout)
        except RuntimeError as error:
            where = f"{channel.address}:{channel.port}"
            raise ChannelBroken(f"the weight channel at {where} did not open: {_one_line(error)}") from error
        self._device = torch.device("cuda", torch.cuda.current_device()) if channel.backend == "nccl" else None

    def send(self, header: BucketHeader, data: torch.Tensor | None, timeout_s: float) -> None:
        messages = [torch.frombuffer(bytearray(header.pack()), dtype=torch.uint8)]
        if data is not None:
            messages.append(data)
        options = BroadcastOptions()
        options.rootRank = 0
        if self._group is None:
            raise ChannelBroken("the sender has left the weight channel")
        ends_at = time.monotonic() + timeout_s
        try:
            for message in messages:
                # 0 would mean the group's own time-out.
                options.timeout = timedelta(seconds=max(ends_at - time.monotonic(), 0.001))
                self._group.broadcast([message.to(self._device or "cpu")], options).wait()
        except RuntimeError as error:
            # The traceback holds the group, which must be free to go.
            raise ChannelBroken(
                f"{header} of version {header.policy_version} was not received: {_one_line(error)}"
            ) from None

    def close(self) -> None:
        # Dropped, since a gloo group's shutdown leaves its connections open and its peers waiting.
        self._group = None


class MemorySender:
    """Hand buckets to engines of the same process."""

    def __init__(self, memory: MemoryChannel, port: int) -> None:
        self._memory = memory
        self._port = port

    def send(self, header: BucketHeader, data: torch.Tensor | None, timeout_s: float) -> None:
        del timeout_s
        self._memory.send(self._port, header.pack())
        if data is not None:
            self._memory.send(self._port, data.cpu().numpy())

    def close(self) -> None:
        self._memory.close(self._port)


def open_sender(channel: WeightChannel, memory: MemoryChannel | None, timeout_s: float) -> WeightSender:
    """Meet the receivers. Blocks until all of them have joined.

    Raises:
        ChannelBroken: they did not join in time, or the port is taken.
        RunFailed: a memory channel without its object.
    """
    if channel.backend == "memory":
        if memory is None:
            raise RunFailed(role="learner", cause="a memory weight channel needs its MemoryChannel object")
        return MemorySender(memory, channel.port)
    return GroupSender(channel, timeout_s)


def _process_group(channel: WeightChannel, store: PrefixStore, timeout: timedelta) -> ProcessGroup:
    if channel.backend == "gloo":
        gloo = ProcessGroupGloo._Options()
        gloo._timeout = timeout
        # A local channel listens on loopback only; otherwise torch picks the interface (GLOO_SOCKET_IFNAME).
        gloo._devices = [
            ProcessGroupGloo.create_device(hostname=channel.address)
            if is_loopback(channel.address)
            else ProcessGroupGloo.create_default_device()
        ]
        return ProcessGroupGloo(store, 0, channel.world_size, gloo)
    # Only CUDA builds of torch have NCCL, so the name is looked up where it is used.
    options = torch.distributed.ProcessGroupNCCL.Options()
    options._timeout = timeout
    return torch.distributed.ProcessGroupNCCL(store, 0, channel.world_size, options)


def _one_line(error: RuntimeError) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
