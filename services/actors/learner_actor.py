"""Ray shell of one learner rank. Decides nothing."""

import socket
from typing import TYPE_CHECKING, Any

import ray

from learner.batch_plan import BatchPlan
from services.actor_logs import redirect_output
from services.actors import HEARTBEAT
from services.recipe import Recipe
from shaping.components import import_module_of
from shaping.training import StepResult, TrainingSample

if TYPE_CHECKING:
    from services.roles.learner import LearnerRole


class LearnerActor:
    """One rank of the learner group in its own process."""

    def __init__(self, recipe: Recipe, rank: int, log: str) -> None:
        redirect_output(log)
        self._recipe = recipe
        self._rank = rank
        self._role: LearnerRole

    def free_address(self) -> tuple[str, int]:
        """This node's address and a port that is free on it now."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def start(self, address: str, port: int) -> str:
        # Imported here, in the actor: the driver only needs this class's name, not torch.
        roles = import_module_of("services.roles", "learner")
        self._role = roles.build_learner_role(self._recipe, self._rank, (address, port))
        return str(self._role.start())

    @ray.method(concurrency_group=HEARTBEAT)
    def ping(self) -> None:
        """Answers while other calls work, in a thread of its own."""

    def step(
        self, plan: BatchPlan, step: int, indices: tuple[int, ...], *groups: tuple[TrainingSample, ...]
    ) -> StepResult:
        return self._role.step(plan, step, dict(zip(indices, groups, strict=True)))

    def call(self, method: str, *arguments: Any) -> Any:
        """Any other method of the role."""
        return getattr(self._role, method)(*arguments)

    def close(self) -> None:
        self._role.close()
