"""The user's gate: what the user wants of a run, as the control plane passes it on.

Closes and opens for nobody else: weight syncs and back-pressure have gates of their own. What a pause does is in
pauses.py; this is whether there is one, and of what kind.
"""

from collections.abc import Awaitable, Callable, Set

from services.bell import Bell
from services.holding import Hold
from services.live_hooks import LiveHooks
from services.ports import ControlPort
from services.reports import Intent, IntentKind, PauseMode, PauseOrder, ReleaseLevel
from services.run_tasks import RunTasks
from shaping.checks import require

_HOLDS = {PauseMode.DRAIN: Hold.NONE, PauseMode.FREEZE: Hold.FREEZE, PauseMode.ABORT: Hold.ABORT}


class RunCancelled(Exception):
    """The user cancelled the run."""


class Released(Exception):
    """The user paused the run and gives everything back: its checkpoint is committed, and its roles are to end.

    Args:
        checkpoint: name of the one that the run goes on from.
        operation_id: of the pause, to name when it is told.
    """

    def __init__(self, *, checkpoint: str, operation_id: str) -> None:
        super().__init__(f"everything is given back; the run goes on from {checkpoint}")
        self.checkpoint = checkpoint
        self.operation_id = operation_id


class UserGate:
    """Follows what the user wants.

    Args:
        live: hears of changes of the config.
        tasks: hears of what is to be done once.
        can_release: what every engine can give back.
        refuse: says that a pause failed, before anything was stopped: its order, the phase and why.
    """

    def __init__(
        self,
        control: ControlPort,
        bell: Bell,
        *,
        live: LiveHooks,
        tasks: RunTasks,
        can_release: Set[ReleaseLevel],
        refuse: Callable[[PauseOrder, str, str], Awaitable[None]],
    ) -> None:
        self._control = control
        self._bell = bell
        self._live = live
        self._tasks = tasks
        self._can_release = {ReleaseLevel.NONE, ReleaseLevel.ALL, *can_release}
        self._refuse = refuse
        self._intent = Intent(generation=0, kind=IntentKind.RUN)
        self._given_up = ""
        self._hold = Hold.NONE
        self._is_kept_shut = False

    @property
    def order(self) -> PauseOrder | None:
        """How the user wants the run to stop; None where it is to go on."""
        order = self._intent.order
        return None if order is None or order.operation_id == self._given_up else order

    @property
    def is_cancel(self) -> bool:
        """Whether the run is to end once it has stopped."""
        return self._intent.kind is IntentKind.CANCEL

    @property
    def reason(self) -> str:
        """Why the user wants what it wants."""
        return self._intent.reason

    @property
    def is_open(self) -> bool:
        """Whether groups may be admitted and a learner step may begin."""
        return self.order is None and not self._is_kept_shut

    @property
    def stops_at_once(self) -> bool:
        """Whether nothing is to be waited for but the learner step under way."""
        return self.order is not None and self.order.mode is not PauseMode.DRAIN

    @property
    def hold(self) -> Hold:
        """What engines are to do."""
        if self.order is not None:
            self._hold = _HOLDS[self.order.mode]
        elif not self._is_kept_shut:
            self._hold = Hold.NONE
        return self._hold

    def keep_shut(self) -> None:
        """The run is paused, and does not go on before everything is as it was."""
        self._is_kept_shut = True

    def reopen(self) -> None:
        """Everything is as it was."""
        self._is_kept_shut = False
        self._bell.ring()

    def give_up(self, order: PauseOrder) -> None:
        """This pause failed: the run goes on, whatever the control plane says of it."""
        self._given_up = order.operation_id
        self._bell.ring()

    async def fetch(self) -> None:
        """Hear of the next thing that the user wants.

        Raises:
            RunCancelled: at once, with nothing saved.
        """
        intent = await self._control.intent_after(self._intent.generation)
        order = intent.order
        if intent.kind is IntentKind.CANCEL and order is None:
            raise RunCancelled(intent.reason)
        is_clear = (order is None) == (intent.kind is IntentKind.RUN)
        require(is_clear, f"an intent must say how to stop where it says to stop, got {intent}", "control plane")
        self._intent = intent
        self._live.take(intent.changes)
        self._tasks.take(intent.tasks)
        if order is not None and order.release not in self._can_release:
            self.give_up(order)
            known = ", ".join(sorted(self._can_release))
            why = f"release must be one that every engine can do, {known}, got {order.release} (rollout engines)"
            await self._refuse(order, "releasing", why)
        self._bell.ring()

    async def follow(self) -> None:
        """Until it is cancelled.

        Raises:
            RunCancelled: the user asked for it.
        """
        while True:
            await self.fetch()
