"""Where a run can run that is no host:port. Apart from what reaches them, so that naming them imports nothing."""

LOCAL_ADDRESS = "local"
"""A Ray of the run's own."""

HOUSE_ADDRESS = "house"
"""One process without Ray."""
