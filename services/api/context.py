"""What the paths of one application share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from services.api.limits import StreamSlots
from services.api.parameters import RunId
from services.api.problems import Problem
from services.api.tickets import Tickets
from services.control.plane import ControlPlane
from services.control.run import RunControl
from services.run_view.views import AsyncRunView, RunViews


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Args:
    slots: of streams.
    files: what is read from the directories of runs.
    clock: seconds since the epoch.
    """

    plane: ControlPlane
    slots: StreamSlots
    tickets: Tickets
    files: RunViews
    clock: Callable[[], float]

    def find(self) -> Callable[[str], Awaitable[RunControl]]:
        """A dependency: the run that a path names.

        Raises:
            Problem: 404.
        """

        async def find_run(run_id: RunId) -> RunControl:
            run = self.plane.run(run_id)
            if run is None:
                raise Problem(404, "run-not-found", f"no run {run_id} here; GET /v1/runs lists those that are")
            return run

        return find_run

    def files_of(self, run: RunControl) -> AsyncRunView:
        """What can be read from the run's directory."""
        return self.files.of(Path(run.description.run_dir))
