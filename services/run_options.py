"""What the command line, and no recipe, says of how a run or a control plane is hosted. Plain records, no behaviour."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Of the process of one run.

    Args:
        keep_alive: go on when the one who started the run is gone: a driver that was killed, a stopped job.
        changes: live changes to replay, one JSON object per line (RUN_DIR/changes.jsonl of another run); None for none.
        store: of the run's own control plane, a path or a database's URL; "" keeps it in the run's directory.
        control: address of a control plane that is there already; "" has the run bring its own.
        layers: files that were merged into the recipe, as the user named them; the run's recipe says so.
    """

    keep_alive: bool = False
    changes: Path | None = None
    store: str = ""
    control: str = ""
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Of a control plane that outlives its runs.

    Args:
        host, port: where it listens; port 0 picks a free one.
        runs: folder in which runs get their directories.
        store: a path or a database's URL; "" keeps it in `runs`.
        tokens_file: lines `name role token`; None takes those of the environment, if there are any.
        allowed_hosts: names that a Host header may have besides the address itself.
        insecure_no_auth: serve an address that others can reach without a token.
        address: "" serves from this process; "auto" or host:port from a detached actor on that Ray cluster's head.
    """

    host: str
    port: int
    runs: Path
    store: str = ""
    tokens_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    insecure_no_auth: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownOptions:
    """Which detached control plane to end.

    Args:
        address: of the Ray cluster on whose head it lives: "auto" or host:port.
    """

    address: str
