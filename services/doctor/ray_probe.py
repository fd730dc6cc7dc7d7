"""Says what a Ray cluster offers; a process of its own, as a client of a dead cluster cannot be told to give up."""

import sys

from services.ray_connection import cluster_size, connect_to, disconnect
from shaping.errors import UserError


def main() -> int:
    """Connect to the address that is the first argument, and print one line.

    Returns:
        0 where the cluster answered, 1 where the line says why it did not.
    """
    try:
        connect_to(sys.argv[1])
    except UserError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{cluster_size()}\n")
    disconnect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
