"""The control plane of a Ray cluster: one detached, named actor on the head, which every run of the cluster shares.

It outlives drivers and jobs; Ray starts it again when it dies, and its store is on disk. Calls under way are then sent
again by Ray itself, which is why each of them may come twice.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from services.actors.control_actor import ControlActor
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.hosting.link import ControlAway, RunUnknown
from services.hosting.server import ControlOptions
from services.ray_connection import NAMESPACE
from services.ray_ports import first_remote_cause
from services.reports import ControlReport, Intent, RunDescription, RunReport
from shaping.errors import UserError

ACTOR_NAME = "control-plane"
MAX_CONCURRENCY = 1000
"""Every stream and every waiting run takes one; what is above waits behind them."""

HEAD = {"node:__internal_head__": 0.001}


def control_actor(options: ControlOptions) -> Any:
    """The cluster's control plane: the one there is, or a new one with these options."""
    return (
        ray.remote(ControlActor)
        .options(
            name=ACTOR_NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            resources=HEAD,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=MAX_CONCURRENCY,
        )
        .remote(options)
    )


async def open_control(options: ControlOptions) -> "RayTransport":
    """Find or start the cluster's control plane.

    Raises:
        UserError: its port is in use, its store cannot be used, or it is of another version of lessrl.
    """
    transport = RayTransport(options)
    own = version("lessrl")
    found, transport.address = await transport.call("whereabouts")
    if found != own:
        raise UserError(
            f"the cluster's control plane must be of lessrl {own}, found {found}; end it with "
            "`lessrl shutdown --address ADDRESS` once its runs have ended"
        )
    return transport


def end_control() -> bool:
    """End the cluster's control plane for good; whether there was one."""
    try:
        actor = ray.get_actor(ACTOR_NAME, namespace=NAMESPACE)
    except ValueError:
        return False
    ray.get(actor.close.remote())
    ray.kill(actor, no_restart=True)
    return True


class RayTransport:
    """Transport over the actor's handle. Where the actor was ended for good, the next call starts another one."""

    def __init__(self, options: ControlOptions) -> None:
        self._options = options
        self._actor = control_actor(options)
        self.address = ""

    async def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call the actor.

        Raises:
            ControlAway: it is gone; another one is being started.
            UserError: it cannot start.
        """
        try:
            return await getattr(self._actor, method).remote(*arguments, **named)
        except RayTaskError as error:
            cause = first_remote_cause(error)
            if isinstance(cause, ControlAway | RunUnknown | UserError):
                raise cause from error
            raise ControlAway(f"{type(cause).__name__}: {cause}") from error
        except RayActorError as error:
            cause = first_remote_cause(error.__cause__) if error.__cause__ else error
            if isinstance(cause, UserError):
                raise cause from error
            self._actor = control_actor(self._options)
            raise ControlAway(str(error).strip().splitlines()[0]) from error

    async def register(self, description: RunDescription, link_id: str, *, resumed: bool) -> None:
        await self.call("register", description, link_id, resumed=resumed)

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None:
        await self.call("remember", run_id, reports)

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        following: int = await self.call("report", run_id, link_id, first_sequence, reports)
        return following

    async def intent_after(self, run_id: str, generation: int) -> Intent:
        intent: Intent = await self.call("intent_after", run_id, generation)
        return intent

    async def pause(self, run_id: str, request: PauseRequest, caller: str) -> str:
        return str(await self.call("pause", run_id, request, caller))

    async def resume(self, run_id: str, request: ResumeRequest, caller: str) -> str:
        return str(await self.call("resume", run_id, request, caller))

    async def cancel(self, run_id: str, request: CancelRequest, caller: str) -> str:
        return str(await self.call("cancel", run_id, request, caller))

    async def close(self) -> None:
        """The actor stays: it outlives runs."""
