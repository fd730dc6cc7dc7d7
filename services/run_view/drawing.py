"""Drawing of one group: here where it is small, in a process of its own where it takes seconds.

A thread that explains half a million tokens would hold up every other answer of this process. A process can also be
ended when a group takes too long: responses that repeat themselves share millions of strings.
"""

import gc
import os
import resource
import subprocess
import sys

from services.run_view.stored_groups import StoredGroup, glance
from services.run_view.written_group import group_json
from shaping.errors import UserError

IN_PROCESS_TOKENS = 1 << 15
MAX_SECONDS = 60.0
MAX_BYTES = 8 << 30
"""Of address space, several times what 64 responses of 8k tokens take."""

_EXIT_REFUSED = 2


def draw(line: bytes, group: StoredGroup, group_id: str) -> bytes:
    """What `group_json` gives.

    Raises:
        UserError: it cannot be drawn, or not in MAX_SECONDS and MAX_BYTES.
    """
    if group.num_tokens <= IN_PROCESS_TOKENS:
        return group_json(line, group, group_id)
    command = [sys.executable, "-m", "services.run_view.drawing", group_id]
    # The child must find what this process found, wherever that was installed; one thread is all it uses.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, input=line, capture_output=True, timeout=MAX_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(_too_much(group, group_id, f"more than {MAX_SECONDS:g} s")) from error
    if done.returncode == _EXIT_REFUSED:
        raise UserError(done.stderr.decode("utf-8", "replace"))
    if done.returncode != 0:
        raise UserError(_too_much(group, group_id, f"the end of its process (exit code {done.returncode})"))
    return done.stdout


def _too_much(group: StoredGroup, group_id: str, found: str) -> str:
    return (
        f"a group must be drawn in {MAX_SECONDS:g} s and {MAX_BYTES >> 30} GiB, found {found} "
        f"({group_id}, {group.num_tokens} tokens); `lessrl explain groups.jsonl` has no such limits"
    )


def main() -> None:
    """In the child: a line of groups.jsonl on standard input, the drawing or what is wrong on the outputs."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    # Millions of small objects that all live to the end: looking for cycles among them takes a third of the time.
    gc.disable()
    line, group_id = sys.stdin.buffer.read(), sys.argv[1]
    found = glance(line)
    group = StoredGroup(
        offset=0,
        num_bytes=len(line),
        step=found.step,
        num_correct=found.num_correct,
        num_rollouts=found.num_rollouts,
        num_tokens=found.num_tokens,
    )
    try:
        drawn = group_json(line, group, group_id)
    except UserError as error:
        sys.stderr.write(str(error))
        sys.stderr.flush()
        os._exit(_EXIT_REFUSED)
    sys.stdout.buffer.write(drawn)
    sys.stdout.buffer.flush()
    # No teardown of those objects either.
    os._exit(0)


if __name__ == "__main__":
    main()
