"""A process with a child of the same command line that holds a run's directory, as a supervisor and its run do."""

import os
import signal
import sys
from pathlib import Path

from services.run_lock import hold_run_dir

folder = Path(sys.argv[1])
if os.fork() == 0:
    with hold_run_dir(folder):
        (folder / "held").touch()
        signal.pause()
os.wait()
(folder / "restarted").touch()
signal.pause()
