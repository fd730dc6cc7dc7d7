"""The receiving end of a weight channel over a torch process group of its own: gloo on CPU, NCCL on GPU.

Rank 0 (the learner) hosts the store at the channel's address and broadcasts uint8 tensors: headers and buckets.
"""

import ipaddress
from contextlib import nullcontext
from datetime import timedelta

import torch
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroup, ProcessGroupGloo, TCPStore

from shaping.errors import ChannelBroken
from shaping.memory_channel import ByteArray
from shaping.training import WeightChannel

STORE_PREFIX = "lessrl_weights"


class ProcessGroupReceiver:
    """One rank of the channel. Making it blocks until every rank has come, or the time is over.

    Args:
        channel: with backend "gloo" or "nccl".
        worker_index: 0-based process of this engine; its rank is `first_rank + worker_index`.
        timeout_s: longest wait for a peer.
        device: where buckets arrive; they are then copied to host memory.
    Raises:
        ChannelBroken: no store or no peer in time.
    """

    _group: ProcessGroup | None

    def __init__(self, channel: WeightChannel, *, worker_index: int, timeout_s: float, device: torch.device) -> None:
        timeout = timedelta(seconds=timeout_s)
        self._device = torch.device("cpu") if channel.backend == "gloo" else device
        # A stream of its own: on the model's, generation would wait for every bucket.
        self._stream = torch.cuda.Stream(device) if channel.backend == "nccl" else None
        try:
            self._group = _join(channel, channel.first_rank + worker_index, timeout)
        except RuntimeError as error:
            where = f"{channel.address}:{channel.port}"
            raise ChannelBroken(f"no weight channel at {where}: {_one_line(error)}") from error

    def receive(self, num_bytes: int, timeout_s: float) -> ByteArray:
        """One broadcast from rank 0."""
        if self._group is None:
            raise ChannelBroken("this end has left the channel")
        options = BroadcastOptions()
        options.rootRank = 0
        # 0 would mean the group's own time-out.
        options.timeout = timedelta(seconds=max(timeout_s, 0.001))
        try:
            with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
                data = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
                self._group.broadcast([data], options).wait()
                received: ByteArray = data.cpu().numpy()
                return received
        except RuntimeError as error:
            # The traceback holds the group, which must be free to go.
            raise ChannelBroken(_one_line(error)) from None

    def close(self) -> None:
        # Dropped, since a gloo group's shutdown leaves its connections open and its peers waiting.
        self._group = None


def _join(channel: WeightChannel, rank: int, timeout: timedelta) -> ProcessGroup:
    store = TCPStore(channel.address, channel.port, channel.world_size, is_master=False, timeout=timeout)
    prefixed = PrefixStore(STORE_PREFIX, store)
    if channel.backend == "gloo":
        return ProcessGroupGloo(prefixed, rank, channel.world_size, _gloo_options(channel.address, timeout))
    options = torch.distributed.ProcessGroupNCCL.Options()
    options._timeout = timeout
    return torch.distributed.ProcessGroupNCCL(prefixed, rank, channel.world_size, options)


def _one_line(error: RuntimeError) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _gloo_options(address: str, timeout: timedelta) -> ProcessGroupGloo._Options:
    """Gloo listens on loopback where the channel is local; otherwise torch picks the interface (GLOO_SOCKET_IFNAME)."""
    options = ProcessGroupGloo._Options()
    options._timeout = timeout
    is_local = address == "localhost" or _is_loopback(address)
    options._devices = [
        ProcessGroupGloo.create_device(hostname=address) if is_local else ProcessGroupGloo.create_default_device()
    ]
    return options


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
