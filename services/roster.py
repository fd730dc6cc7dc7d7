"""Where the workers of one role stand, and how much each has to do. Decides nothing, and waits for nothing."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from services.least_loaded import LeastLoaded


class Worker(Protocol):
    """What a pool must be able to do with a worker of any role."""

    worker_id: str

    async def start(self) -> Any: ...

    async def restart(self) -> None:
        """End the process, if it lives, and make a new one, not started. Calls under way fail."""
        ...

    async def ping(self) -> Any: ...


P = TypeVar("P", bound=Worker)


class Standing(StrEnum):
    """Where a worker of a pool stands."""

    SERVING = "serving"
    BEHIND = "behind"
    LENT = "lent"
    DRAINING = "draining"
    OUT = "out"
    LOST = "lost"


ALIVE = (Standing.SERVING, Standing.BEHIND, Standing.LENT, Standing.DRAINING)


class Roster(Generic[P]):
    """Workers by name, each at one standing.

    Args:
        ports: all serve at first.
        on_idle: called after `num_idle` has changed.
    """

    def __init__(self, ports: Sequence[P], on_idle: Callable[[], None]) -> None:
        self.ports = {port.worker_id: port for port in ports}
        self._standing = dict.fromkeys(self.ports, Standing.SERVING)
        self._num_at = Counter(self._standing.values())
        # Those of `ALIVE` that have nothing to do.
        self.num_idle = len(self.ports)
        self._on_idle = on_idle
        self.loads = LeastLoaded(self.ports)
        self.lent_loads = LeastLoaded(())
        # By worker, which of all starts was its last, and how many it had.
        self._started: dict[str, int] = {}
        self._restarts: Counter[str] = Counter()
        self.num_starts = 0
        # Of rollout workers, where it is known.
        self.versions: dict[str, int] = {}

    def at(self, *standings: Standing) -> tuple[P, ...]:
        """Workers at any of these, in their own order."""
        # Asked for after every group, and mostly nobody is behind.
        if not any(self._num_at[each] for each in standings):
            return ()
        return tuple(port for name, port in self.ports.items() if self._standing[name] in standings)

    def standing(self, name: str) -> Standing:
        return self._standing[name]

    def load(self, name: str) -> int:
        """What a worker has to do, for the run and for an evaluation that it is lent to."""
        return self.loads.load(name) + self.lent_loads.load(name)

    def add_load(self, name: str, amount: int, *, lent: bool) -> None:
        """More to do for the run, or for an evaluation that a worker is lent to; or less."""
        was_idle = not self.load(name)
        (self.lent_loads if lent else self.loads).add(name, amount)
        if was_idle != (not self.load(name)) and self._standing[name] in ALIVE:
            self._count_idle(-1 if was_idle else 1)

    def _count_idle(self, change: int) -> None:
        self.num_idle += change
        self._on_idle()

    def restarts(self, name: str) -> int:
        """How often a worker was started again."""
        return self._restarts[name]

    def has_started(self, name: str) -> None:
        """A worker was started again."""
        self.num_starts += 1
        self._started[name] = self.num_starts
        self._restarts[name] += 1
        self.versions.pop(name, None)

    def is_new(self, name: str, since: int) -> bool:
        """Whether a worker was started again after `num_starts` was this."""
        return self._started.get(name, 0) > since

    def move(self, name: str, standing: Standing) -> None:
        """Work goes to those that serve, or are lent."""
        before = self._standing[name]
        self._standing[name] = standing
        self._num_at[before] -= 1
        self._num_at[standing] += 1
        if before is standing:
            return
        for of, loads in ((Standing.SERVING, self.loads), (Standing.LENT, self.lent_loads)):
            if before is of:
                loads.remove(name)
            elif standing is of:
                loads.insert(name)
        if (before in ALIVE) != (standing in ALIVE) and not self.load(name):
            self._count_idle(1 if standing in ALIVE else -1)

    def move_all(self, ports: Iterable[P], standing: Standing) -> None:
        for port in ports:
            self.move(port.worker_id, standing)
