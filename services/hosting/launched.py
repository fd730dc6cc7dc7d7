"""The process of a run that a control plane has started: `python -m services.hosting.launched RUN_DIR ...`.

It returns at once and leaves the run behind in a process of its own, which nothing but the run's end, its user or the
system ends.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.commands.options import parse_overrides
from services.hosting.supervisor import supervised
from services.run_options import RunOptions
from services.run_setup import reopen_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, check the run in the foreground, and leave it in the background."""
    parser = argparse.ArgumentParser(prog="services.hosting.launched", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--address", required=True)
    parser.add_argument("--control", default="")
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args(arguments)
    options = RunOptions(keep_alive=True, control=given.control)
    prepared = reopen_run(
        given.run_dir,
        parse_overrides(given.overrides),
        checkpoint=given.checkpoint,
        address=given.address,
        options=options,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        # The run is nobody's child from here on: this process's parent waits for it alone.
        return 0
    os.setsid()
    return supervised(prepared)


if __name__ == "__main__":
    sys.exit(main())
