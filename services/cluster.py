"""The roles of a run as actors on a Ray cluster: placed together, started together, ended together."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from learner.deepspeed_env import worker_environment as learner_environment
from rollout.vllm_env import worker_environment as rollout_environment
from services.actors import HEARTBEAT
from services.actors.learner_actor import LearnerActor
from services.actors.rollout_actor import RolloutActor
from services.actors.shaping_actor import ShapingActor
from services.placement.packing import Bundle
from services.placement.place import bundles_of
from services.ray_connection import check_claims
from services.ray_ports import RayLearner, RayRollout, RayShaping, kill
from services.recipe import Recipe
from services.run_dir import GROUPS_FILE
from shaping.errors import UserError


class RayHouse:
    """Ports over the actors of one run. `close` ends everything it started, whatever state that is in.

    Args:
        logs: folder for what the actors print.
        with_learner: without one, `learner` is missing: an evaluation trains nothing.
    """

    def __init__(self, recipe: Recipe, logs: Path, *, with_learner: bool = True) -> None:
        self._recipe = recipe
        self._logs = logs
        self._num_ranks = recipe.learner.num_ranks if with_learner else 0
        self._placement: PlacementGroup | None = None
        self.rollout: tuple[RayRollout, ...] = ()
        self.shaping: tuple[RayShaping, ...] = ()
        self.learner: RayLearner

    async def place(self, cpus: float, gpus: float) -> None:
        """Reserve resources for every actor, then create all of them. They load in `start` of their ports.

        Raises:
            UserError: the cluster cannot hold them.
        """
        recipe, cluster = self._recipe, self._recipe.cluster
        check_claims(recipe, cpus, gpus)
        claims = [each for each in bundles_of(recipe) if self._num_ranks or each.role != "learner"]
        bundles = [_bundle(each) for each in claims]
        self._placement = placement_group(bundles, strategy="PACK")
        await self._await_placement(recipe.run.deadlines.start_seconds)
        options = [self._options(index, bundle) for index, bundle in enumerate(bundles)]
        num_ranks, num_workers = self._num_ranks, recipe.rollout.num_workers
        if num_ranks:
            backend = "nccl" if cluster.device == "cuda" else "gloo"
            self.learner = RayLearner([self._learner_actor(options[rank], rank) for rank in range(num_ranks)], backend)
        self.rollout = tuple(
            RayRollout(partial(self._rollout_actor, each, index), f"rollout-{index}")
            for index, each in enumerate(options[num_ranks : num_ranks + num_workers])
        )
        self.shaping = tuple(
            RayShaping(partial(self._shaping_actor, each, index), f"shaping-{index}")
            for index, each in enumerate(options[num_ranks + num_workers :])
        )

    async def close(self) -> None:
        """Close engines and ranks politely, then end every process and free the reservation. Harmless when repeated."""
        if self.rollout:
            learners = [self.learner] if self._num_ranks else []
            closing = [port.close() for port in self.rollout] + [learner.close() for learner in learners]
            await asyncio.gather(*closing)
            kill([port.actor for port in self.rollout])
            kill([port.actor for port in self.shaping])
            kill([actor for learner in learners for actor in learner.actors])
        self.rollout, self.shaping = (), ()
        if self._placement is not None:
            remove_placement_group(self._placement)
            self._placement = None

    async def _await_placement(self, seconds: float) -> None:
        assert self._placement is not None
        try:
            async with asyncio.timeout(seconds):
                await self._placement.ready()
        except TimeoutError as error:
            raise UserError(
                f"the cluster must have room for all actors within {seconds:g} s, it had not; wait for other jobs to "
                "end, add nodes, or raise run.deadlines.start_seconds (cluster)"
            ) from error

    def _options(self, index: int, bundle: dict[str, float]) -> dict[str, Any]:
        strategy = PlacementGroupSchedulingStrategy(placement_group=self._placement, placement_group_bundle_index=index)
        return {
            "scheduling_strategy": strategy,
            "num_cpus": bundle.get("CPU", 0),
            "num_gpus": bundle.get("GPU", 0),
            "max_restarts": 0,
        }

    def _log(self, actor: str) -> str:
        return str(self._logs / f"{actor}.log")

    def _learner_actor(self, options: dict[str, Any], rank: int) -> Any:
        recipe = self._recipe
        # Ray shows each actor only its own GPU, so the local rank is always 0 there; rank 0's address is sent at start.
        environment = learner_environment(
            rank=rank,
            num_ranks=recipe.learner.num_ranks,
            address="",
            port=0,
            device=recipe.cluster.device,
            num_threads=recipe.cluster.learner.num_threads,
        )
        return (
            _answering(LearnerActor)
            .options(**options, runtime_env={"env_vars": environment})
            .remote(recipe, rank, self._log(f"learner-{rank}"))
        )

    def _shaping_actor(self, options: dict[str, Any], index: int) -> Any:
        log, groups = self._log(f"shaping-{index}"), self._logs.parent / GROUPS_FILE
        return _answering(ShapingActor).options(**options).remote(self._recipe, log, groups)

    def _rollout_actor(self, options: dict[str, Any], index: int) -> Any:
        recipe = self._recipe
        environment = rollout_environment(
            recipe.rollout.engine,
            offline=recipe.model.path.startswith("/"),
            num_threads=recipe.cluster.rollout.num_threads,
        )
        return (
            ray.remote(RolloutActor)
            .options(**options, runtime_env={"env_vars": environment})
            .remote(recipe, index, self._log(f"rollout-{index}"))
        )


def _bundle(claim: Bundle) -> dict[str, float]:
    return {name: amount for name, amount in {"CPU": claim.cpus, "GPU": claim.gpus}.items() if amount}


def _answering(actor: type) -> Any:
    """An actor whose heartbeat is answered while it works."""
    return ray.remote(concurrency_groups={HEARTBEAT: 1})(actor)
