"""The learner role: one rank behind the orchestrator's plan."""

from collections.abc import Mapping

from learner.batch_plan import BatchPlan
from learner.learner import Learner
from learner.torch_learner import torch_learner
from learner.work import StepWork, rank_mini_batches
from services.recipe import Recipe
from services.schedules import sampling_at
from services.sync_phases import PEER_SHARE
from shaping.components import import_module_of
from shaping.memory_channel import MemoryChannel
from shaping.stored_files import StoredFile
from shaping.training import CanaryAnswer, StepResult, TrainingSample, WeightChannel, WeightLayout, WeightManifest


class LearnerRole:
    """One rank: puts the samples that the plan names in place, and trains."""

    def __init__(self, learner: Learner, recipe: Recipe, rank: int) -> None:
        self._learner = learner
        self._rank = rank
        self._entropy_source = recipe.rollout.sampling.entropy_source
        self._sampling_at = sampling_at(recipe.rollout.sampling)

    def start(self) -> str:
        """Load; returns one line that describes this rank."""
        info = self._learner.start()
        return f"{info.description}, {info.num_parameters / 1e6:.2f}M parameters"

    def step(self, plan: BatchPlan, step: int, groups: Mapping[int, tuple[TrainingSample, ...]]) -> StepResult:
        """Train this rank's part.

        Args:
            groups: samples of every group that this rank's part names, by the group's index in the batch.
        """
        work = StepWork(
            step=step,
            policy_version=step,
            temperature=self._sampling_at(step).temperature,
            entropy_source=self._entropy_source,
            mini_batches=rank_mini_batches(plan, self._rank, lambda size: groups[size.group_index][size.sample_index]),
        )
        return self._learner.step(work)

    def configure(self, recipe: Recipe) -> None:
        """Train by this recipe from the next step on.

        Raises:
            RecipeError: it differs in something that the learner was built with; nothing has changed then.
        """
        at = sampling_at(recipe.rollout.sampling)
        self._learner.configure(recipe.learner)
        self._sampling_at = at

    def weight_layout(self) -> WeightLayout:
        return self._learner.weight_layout()

    def connect_weights(self, channel: WeightChannel, memory: MemoryChannel | None = None) -> None:
        self._learner.connect_weights(channel, memory)

    def send_weights(self, policy_version: int) -> WeightManifest:
        return self._learner.send_weights(policy_version)

    def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        return self._learner.score_canary(answers)

    def save(self, directory: str) -> tuple[StoredFile, ...]:
        return self._learner.save(directory)

    def load(self, directory: str) -> None:
        self._learner.load(directory)

    def export(self, directory: str) -> None:
        self._learner.export(directory)

    def close(self) -> None:
        self._learner.close()


def build_learner_role(recipe: Recipe, rank: int, rendezvous: tuple[str, int]) -> LearnerRole:
    """Rank `rank` of a run, not started. The DeepSpeed learner is imported only where it is asked for."""
    weight_timeout_s = PEER_SHARE * recipe.run.deadlines.weights_seconds
    if recipe.learner.engine == "torch":
        learner = torch_learner(
            recipe.learner, model_path=recipe.model.path, seed=recipe.seed, weight_timeout_s=weight_timeout_s
        )
        return LearnerRole(learner, recipe, rank)
    module = import_module_of("learner", f"{recipe.learner.engine}_learner")
    address, port = rendezvous
    learner = module.deepspeed_learner(
        recipe.learner,
        model_path=recipe.model.path,
        seed=recipe.seed,
        rank=rank,
        address=address,
        port=port,
        timeout_s=recipe.run.deadlines.step_seconds,
        weight_timeout_s=weight_timeout_s,
    )
    return LearnerRole(learner, recipe, rank)
