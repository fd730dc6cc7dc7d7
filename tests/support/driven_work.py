"""A driver with work that writes its process id to a file, then waits for an interrupt, or for a file to appear."""

import os
import signal
import sys
import threading
from pathlib import Path

from services.hosting.driver import drive
from shaping.errors import UserError

folder, how = Path(sys.argv[1]), sys.argv[2]
interrupted = threading.Event()


def work() -> int:
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    (folder / "pid.part").write_text(str(os.getpid()))
    (folder / "pid.part").rename(folder / "pid")
    if how == "fails":
        raise UserError("a wrong recipe")
    if how == "ends":
        return 7
    while not interrupted.wait(0.05):
        if (folder / "go").exists():
            (folder / "went_on").touch()
            return 0
    (folder / "interrupted").touch()
    return 130


sys.exit(drive(work, keep_alive=how == "keeps"))
