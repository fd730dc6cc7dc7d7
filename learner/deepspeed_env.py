"""Environment of a learner process, set before it starts: DeepSpeed and OpenMP read theirs at import.

Imports nothing heavy, so that whoever starts the process can ask for it.
"""

import ipaddress
from typing import Literal


def worker_environment(
    *,
    rank: int,
    num_ranks: int,
    address: str,
    port: int,
    device: Literal["cpu", "cuda"],
    local_rank: int = 0,
    num_threads: int = 1,
) -> dict[str, str]:
    """Variables of one rank's process.

    Args:
        address, port: where rank 0 listens for the others.
        local_rank: index of this rank's GPU among the devices its process can see; 0 where it sees only its own.
        num_threads: OpenMP threads. More threads than free cores slow a rank down many times over.
    """
    local = {"GLOO_SOCKET_IFNAME": "lo"} if is_loopback(address) else {}
    return local | {
        "DS_ACCELERATOR": device,
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_RANK": str(local_rank if device == "cuda" else rank),
        "OMP_NUM_THREADS": str(num_threads),
        "TOKENIZERS_PARALLELISM": "false",
    }


def is_loopback(address: str) -> bool:
    """Whether an address can only be reached from its own machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
