"""The learner's end of the weight channel: rank 0 broadcasts each bucket once, as bytes.

The convention, shared with the engines: a TCPStore at the channel's address, hosted here; PrefixStore "lessrl_weights";
a process group made directly, without touching the global one; one uint8 broadcast per bucket from root 0, in layout
order; parameters concatenated in order, C-contiguous, without padding.
"""

from datetime import timedelta
from typing import Protocol

import torch
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroup, ProcessGroupGloo, TCPStore

from learner.deepspeed_env import is_loopback
from shaping.errors import RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.training import WeightChannel

STORE_PREFIX = "lessrl_weights"


class WeightSender(Protocol):
    """Sends buckets in layout order."""

    def send(self, bucket_index: int, data: torch.Tensor) -> None:
        """Send one bucket, uint8 [num_bytes], on the CPU or the group's GPU."""
        ...

    def close(self) -> None: ...


class GroupSender:
    """Broadcast over gloo (CPU) or NCCL (GPU)."""

    def __init__(self, channel: WeightChannel, timeout_s: float) -> None:
        timeout = timedelta(seconds=timeout_s)
        try:
            self._store = TCPStore(
                channel.address, channel.port, channel.world_size, True, timeout=timeout, wait_for_workers=False
            )
            self._group = _process_group(channel, PrefixStore(STORE_PREFIX, self._store), timeout)
        except RuntimeError as error:
            where = f"{channel.address}:{channel.port}"
            raise RunFailed(role="learner", cause=f"the weight channel at {where} did not open: {error}") from error
        self._device = torch.device("cuda", torch.cuda.current_device()) if channel.backend == "nccl" else None

    def send(self, bucket_index: int, data: torch.Tensor) -> None:
        options = BroadcastOptions()
        options.rootRank = 0
        try:
            self._group.broadcast([data.to(self._device or "cpu")], options).wait()
        except RuntimeError as error:
            raise RunFailed(role="learner", cause=f"weight bucket {bucket_index} was not received: {error}") from error

    def close(self) -> None:
        del self._group, self._store


class MemorySender:
    """Hand buckets to engines of the same process."""

    def __init__(self, channel: MemoryChannel) -> None:
        self._channel = channel

    def send(self, bucket_index: int, data: torch.Tensor) -> None:
        self._channel.send(bucket_index, data.cpu().numpy())

    def close(self) -> None:
        return None


def open_sender(channel: WeightChannel, memory: MemoryChannel | None, timeout_s: float) -> WeightSender:
    """Meet the receivers. Blocks until all of them have joined.

    Raises:
        RunFailed: they did not join in time, or the port is taken.
    """
    if channel.backend == "memory":
        if memory is None:
            raise RunFailed(role="learner", cause="a memory weight channel needs its MemoryChannel object")
        return MemorySender(memory)
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
