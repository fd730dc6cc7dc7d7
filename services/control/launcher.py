"""What the host of a control plane can do for it: start processes of runs, end them, export checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start: `lessrl train` or `lessrl resume`, in a session of its own.

    Args:
        run_dir: new and empty but for the recipe, or that of a run which goes on.
        checkpoint: to go on from; "" begins.
    """

    run_id: str
    run_dir: Path
    checkpoint: str = ""
    overrides: Sequence[str] = ()


class RunLauncher(Protocol):
    """How this control plane starts runs."""

    def launch(self, launch: Launch) -> None:
        """Start it; it says the rest itself, or `is_alive` becomes false.

        Raises:
            UserError: no process could be started.
        """
        ...

    def is_alive(self, run_dir: Path) -> bool | None:
        """Whether some process works in this directory; None where this host cannot say."""
        ...

    def kill(self, run_dir: Path) -> None:
        """End the process that works there, and what it started. Harmless when there is none."""
        ...


class Exporter(Protocol):
    """How this control plane turns a checkpoint into a model."""

    def export(self, run_dir: Path, checkpoint: str, *, timeout_seconds: float) -> str:
        """Write the policy of a checkpoint as a Hugging Face model; what an export that was cut off left is replaced.

        Returns:
            Its directory, relative to the run's.
        Raises:
            LessrlError, OSError, SubprocessError: it cannot be written; the message is shown to who asked.
        """
        ...
