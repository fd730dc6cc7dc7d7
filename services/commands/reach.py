"""From the words of a command to a control plane and one of its runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.client.endpoint import find_endpoint
from services.client.errors import CommandFailed
from services.client.http import ControlClient
from services.client.runs import choose_run, is_over
from services.run_dir import CONTROL_FILE
from shaping.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachedRun:
    """A run behind its control plane.

    Args:
        run_dir: where the run was named by its directory; None otherwise.
    """

    client: ControlClient
    run_id: str
    run_dir: Path | None = None

    @property
    def path(self) -> str:
        return f"/v1/runs/{self.run_id}"


@contextmanager
def reach_plane(url: str) -> Iterator[ControlClient]:
    """A control plane, where no run is meant."""
    with ControlClient(find_endpoint(url)) as client:
        yield client


@contextmanager
def reach_run(run: str, url: str) -> Iterator[ReachedRun]:
    """One run: by id, name or directory, or the only active one.

    Raises:
        CommandFailed: no control plane answers, or it is not clear which run is meant.
        UserError: no such address.
    """
    run_dir = directory_of(run)
    endpoint = find_endpoint(url, run_dir=run_dir)
    with ControlClient(endpoint) as client:
        run_id = endpoint.run_id if run_dir is not None else choose_run(client, run)
        yield ReachedRun(client=client, run_id=run_id, run_dir=run_dir)


def directory_of(run: str) -> Path | None:
    """The run's directory where RUN names one; None where it is an id or a name."""
    path = Path(run)
    return path if run and (path.is_dir() or "/" in run) else None


def is_going_on(run_dir: Path, url: str) -> bool:
    """Whether a run that is named by its directory has a process, as far as its control plane can say."""
    if not (run_dir / CONTROL_FILE).is_file():
        return False
    try:
        with reach_run(str(run_dir), url) as reached:
            return not is_over(reached.client.get(f"{reached.path}/status"))
    except (CommandFailed, UserError):
        return False
