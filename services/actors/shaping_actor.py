"""Ray shell of one shaping worker. Decides nothing."""

from pathlib import Path

import ray

from services.actor_logs import redirect_output
from services.ports import RoundOutcome, ShapedSummary
from services.recipe import Recipe
from services.roles.shaping import ShapingRole, build_shaping_role
from shaping.records import RolloutGroup
from shaping.training import TrainingSample


class ShapingActor:
    """ShapingPipeline in its own process; samples stay in the object store, their summary travels."""

    def __init__(self, recipe: Recipe, log: str, groups: Path) -> None:
        redirect_output(log)
        self._role: ShapingRole = build_shaping_role(recipe, groups)

    def start(self) -> None:
        """Answers once the pipeline is built and compiled."""
        self._role.warm_up()

    def score(self, group: RolloutGroup) -> RoundOutcome:
        return self._role.score(group)

    @ray.method(num_returns=2)
    def shape(self, *rounds: RolloutGroup) -> tuple[ShapedSummary, tuple[TrainingSample, ...]]:
        return self._role.shape(rounds)
