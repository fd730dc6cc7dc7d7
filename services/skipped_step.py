"""A learner step whose loss or gradient was not finite, as a run keeps it: `<run dir>/skipped/step-000012`.

groups.safetensors   training samples of its groups, see services/group_files.py
step.json            this record, written last: with it the step is whole
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.durable_files import replace_file
from services.ledger import LedgerLine
from shaping.errors import CheckpointError

SKIPPED_DIR = "skipped"
GROUPS_FILE = "groups.safetensors"
STEP_FILE = "step.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedStep:
    """What a replay needs beside the samples.

    Args:
        step: 1-based; it would have trained policy version `step - 1`.
        cause: the learner's words.
        lines: how the ledger names its groups, in the order of the batch. The ledger itself has them only where the run
            went on from here.
    """

    step: int
    cause: str
    lines: tuple[LedgerLine, ...]

    def write(self, directory: Path) -> None:
        """Write step.json."""
        replace_file(directory / STEP_FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())


def skipped_dir(run_dir: Path, step: int) -> Path:
    """Where a run keeps this step, if it was skipped."""
    return run_dir / SKIPPED_DIR / f"step-{step:06d}"


def read_skipped(directory: Path) -> SkippedStep:
    """Read what `SkippedStep.write` wrote.

    Raises:
        CheckpointError: not there, or not as it was written.
    """
    path = directory / STEP_FILE
    try:
        plain = json.loads(path.read_bytes())
        lines = tuple(LedgerLine.from_plain(each) for each in plain.pop("lines"))
        return SkippedStep(**plain, lines=lines)
    except OSError as error:
        raise CheckpointError(
            f"a skipped step must hold {STEP_FILE}, which is written last: {error.strerror} ({path})"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{STEP_FILE} must be as it was written, found {error!r} ({path})") from error
