"""What the orchestrator sees of the rest of the house. Ray actors and in-process objects both satisfy these.

The orchestrator moves references and small summaries; `Ref` is opaque to it: an object of this process in house mode,
an object-store reference under Ray.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from learner.batch_plan import BatchPlan, SampleSize
from rollout.engine import EngineInfo, EngineMemory
from rollout.worker import GroupSummary
from services.recipe import Recipe
from services.reports import ControlReport, Intent
from shaping.config import RewardConfig
from shaping.evaluation.answers import GradedResponse
from shaping.groups import Drop, Verdict
from shaping.metrics import Metric
from shaping.records import GroupRequest
from shaping.stored_files import StoredFile
from shaping.training import CanaryAnswer, StepResult, WeightChannel, WeightLayout, WeightManifest

Ref = object


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundHandle:
    """A finished round of a group: where its arrays are, and its size."""

    ref: Ref
    summary: GroupSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOutcome:
    """Rewards of the decided rollouts of one round, for the rollout plan and for evaluation."""

    rewards: tuple[float, ...]
    num_correct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedSummary:
    """What became of a group, without its arrays.

    Args:
        samples: sizes of its samples, in order; empty exactly when `drop` is set. `group_index` is 0.
        excluded: verdicts of the rollouts that were left out of scoring; not kept in a file of groups.
        remembered: what shaping wants remembered of the prompt; not kept in a file of groups either.
    """

    group_id: str
    samples: tuple[SampleSize, ...]
    drop: Drop | None
    metrics: dict[str, Metric]
    num_correct: int
    num_scored: int
    min_policy_version: int
    excluded: tuple[Verdict, ...] = ()
    remembered: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedHandle:
    """A shaped group: where its training samples are, and its summary."""

    ref: Ref
    summary: ShapedSummary


class RolloutPort(Protocol):
    """One rollout worker."""

    worker_id: str

    async def start(self) -> EngineInfo: ...

    async def restart(self) -> None:
        """End the process, if it lives, and make a new one, not started. Calls under way fail."""
        ...

    async def ping(self) -> int:
        """The policy version that the engine serves."""
        ...

    async def generate(self, request: GroupRequest) -> RoundHandle:
        """Sample one round of a group.

        Raises:
            RolloutAborted: `abort` was called meanwhile.
        """
        ...

    async def freeze(self) -> None:
        """Hold requests at a token border until `thaw`; weights may be taken meanwhile."""
        ...

    async def thaw(self) -> None:
        """Requests go on at their next token. Harmless without a freeze."""
        ...

    async def abort(self) -> None:
        """Give up every request under way."""
        ...

    async def release(self, memory: EngineMemory) -> None:
        """Give memory back, with all that comes before it; no request may be under way."""
        ...

    async def wake(self, memory: EngineMemory) -> None:
        """Take memory again: first weights, which are there with the next commit, then the KV cache."""
        ...

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join a weight channel; an earlier one is left."""
        ...

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None: ...

    async def verify_weights(self, manifest: WeightManifest) -> None:
        """Raises EngineRefused unless the engine's own checksums of what is staged agree."""
        ...

    async def commit_weights(self, manifest: WeightManifest) -> None: ...

    async def discard_staged_weights(self) -> None: ...

    async def resume(self) -> None:
        """End the pause of a weight sync, and of nobody else."""
        ...

    async def canary(self, request: GroupRequest) -> CanaryAnswer: ...

    async def close(self) -> None: ...


class ShapingPort(Protocol):
    """One shaping worker."""

    worker_id: str

    async def start(self) -> None: ...

    async def restart(self) -> None:
        """End the process, if it lives, and make a new one, not started. Calls under way fail."""
        ...

    async def ping(self) -> None: ...

    async def configure(self, recipe: Recipe) -> None:
        """Shape by this recipe from the next call on; a process made by `restart` has it too, once it is started.

        Raises:
            RecipeError: it differs in something that the worker was built with; the worker goes on as it was.
        """
        ...

    async def score(self, round_handle: RoundHandle) -> RoundOutcome: ...

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle: ...

    async def grade(self, round_handle: RoundHandle, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        """Texts and verdicts of one round of an evaluation, by a reward of its own; one per rollout, in order."""
        ...

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        """Write groups to a new file, with everything that `load_groups` needs."""
        ...

    async def load_groups(self, file: str, num_groups: int) -> tuple[ShapedHandle, ...]:
        """Read what `save_groups` wrote, in order.

        Raises:
            CheckpointError: damaged, or another number of groups.
        """
        ...

    async def close(self) -> None: ...


class LearnerPort(Protocol):
    """The whole learner group, all ranks."""

    async def start(self) -> str:
        """Load on every rank; returns one line that describes the group."""
        ...

    async def ping(self) -> None:
        """Answers when every rank does."""
        ...

    async def configure(self, recipe: Recipe) -> None:
        """Train by this recipe from the next step on, on every rank.

        Raises:
            RecipeError: it differs in something that the learner was built with; every rank goes on as it was.
        """
        ...

    async def step(self, batch: tuple[ShapedHandle, ...], plan: BatchPlan, step: int) -> StepResult: ...

    async def weight_layout(self) -> WeightLayout: ...

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        """A new address that receivers can join; `connect_weights` then joins as sender."""
        ...

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join a weight channel; an earlier one is closed."""
        ...

    async def send_weights(self, policy_version: int) -> WeightManifest: ...

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        """Largest |learner - engine| log-prob over all tokens of the answers, nats."""
        ...

    async def save(self, directory: str) -> tuple[StoredFile, ...]:
        """Write what `load` needs to go on bit for bit; every rank writes its part.

        Raises:
            CheckpointError: a file could not be written.
        """
        ...

    async def load(self, directory: str) -> None:
        """Restore what `save` wrote, into a started learner.

        Raises:
            CheckpointError: a file is missing, or the learner is another one.
        """
        ...

    async def export(self, directory: str) -> None: ...

    async def close(self) -> None: ...


class ControlPort(Protocol):
    """Where a run reports, and hears what its user wants."""

    async def report(self, report: ControlReport) -> None:
        """Take it in. Returns at once; a control plane that is away gets it when it is back."""
        ...

    async def intent_after(self, generation: int) -> Intent:
        """The current intent once its generation is above the given one; waits."""
        ...
