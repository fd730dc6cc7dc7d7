"""The receiving end of a weight channel over a torch process group of its own: gloo on CPU, NCCL on GPU.

Rank 0 (the learner) hosts the store at the channel's address and broadcasts one uint8 tensor per bucket.
"""

import ipaddress
from contextlib import nullcontext
from datetime import timedelta

import torch
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroupGloo, TCPStore

from shaping.training import WeightChannel

STORE_PREFIX = "lessrl_weights"


class ProcessGroupReceiver:
    """One rank of the channel. Making it blocks until every rank has come, or the time is over.

    Args:
        channel: with backend "gloo" or "nccl".
        worker_index: 0-based process of this engine; its rank is `first_rank + worker_index`.
        timeout_s: longest wait for a peer, and for one bucket.
        device: where buckets arrive; they are then copied to host memory.
    Raises:
        torch.distributed.DistError: no store or no peer in time.
    """

    def __init__(self, channel: WeightChannel, *, worker_index: int, timeout_s: float, device: torch.device) -> None:
        timeout = timedelta(seconds=timeout_s)
        rank = channel.first_rank + worker_index
        store = TCPStore(channel.address, channel.port, channel.world_size, is_master=False, timeout=timeout)
        prefixed = PrefixStore(STORE_PREFIX, store)
        self._device = torch.device("cpu") if channel.backend == "gloo" else device
        # A stream of its own: on the model's, generation would wait for every bucket.
        self._stream: torch.cuda.Stream | None = None
        if channel.backend == "gloo":
            self._group = ProcessGroupGloo(prefixed, rank, channel.world_size, _gloo_options(channel.address, timeout))
        else:
            self._stream = torch.cuda.Stream(device)
            options = torch.distributed.ProcessGroupNCCL.Options()
            options._timeout = timeout
            self._group = torch.distributed.ProcessGroupNCCL(prefixed, rank, channel.world_size, options)

    def receive(self, bucket_index: int, num_bytes: int) -> torch.Tensor:
        """One broadcast from rank 0. Bucket order is the layout's on both sides."""
        del bucket_index
        options = BroadcastOptions()
        options.rootRank = 0
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            data = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
            self._group.broadcast([data], options).wait()
            return data.cpu()

    def close(self) -> None:
        self._group.shutdown()


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
