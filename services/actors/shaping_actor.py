"""Ray shell of one shaping worker. Decides nothing."""

from pathlib import Path
from typing import Any

import ray

from services.actor_logs import redirect_output
from services.actors import HEARTBEAT
from services.ports import RoundOutcome, ShapedSummary
from services.recipe import Recipe
from services.roles.shaping import ShapingRole, build_shaping_role
from shaping.config import RewardConfig
from shaping.evaluation.answers import GradedResponse
from shaping.records import RolloutGroup
from shaping.stored_files import StoredFile
from shaping.training import TrainingSample


class ShapingActor:
    """ShapingPipeline in its own process; samples stay in the object store, their summary travels."""

    def __init__(self, recipe: Recipe, log: str, groups: Path) -> None:
        redirect_output(log)
        self._role: ShapingRole = build_shaping_role(recipe, groups)

    def start(self) -> None:
        """Answers once the pipeline is built and compiled."""
        self._role.warm_up()

    @ray.method(concurrency_group=HEARTBEAT)
    def ping(self) -> None:
        """Answers while other calls work, in a thread of its own."""

    def configure(self, recipe: Recipe) -> None:
        self._role.configure(recipe)

    def score(self, group: RolloutGroup) -> RoundOutcome:
        return self._role.score(group)

    def grade(self, group: RolloutGroup, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        return self._role.grade(group, reward)

    @ray.method(num_returns=2)
    def shape(self, *rounds: RolloutGroup) -> tuple[ShapedSummary, tuple[TrainingSample, ...]]:
        return self._role.shape(rounds)

    def save_groups(
        self, file: str, summaries: tuple[ShapedSummary, ...], *samples: tuple[TrainingSample, ...]
    ) -> StoredFile:
        return self._role.save_groups(list(zip(summaries, samples, strict=True)), file)

    def load_groups(self, file: str, num_groups: int) -> Any:
        pairs = self._role.load_groups(file, num_groups)
        summaries = tuple(summary for summary, _ in pairs)
        return (summaries, *(samples for _, samples in pairs)) if pairs else summaries
