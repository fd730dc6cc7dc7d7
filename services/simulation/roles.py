"""Roles that only wait: every port of a run, on whatever clock its event loop has.

Each checks what it is asked, as the real ones would: weights are staged before they are committed, versions follow one
another, a plan names the samples of its batch, a group ends once.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from learner.batch_plan import BatchPlan, SampleSize
from rollout.engine import EngineInfo, EngineMemory
from rollout.worker import GroupSummary
from services.ledger import LedgerLine
from services.ports import ControlPort, LearnerPort, RoundHandle, RoundOutcome, ShapedHandle, ShapedSummary
from services.recipe import Recipe
from services.recipe_sections import CheckpointConfig
from services.reports import ControlReport, Intent, IntentKind, RunEvent, StepReport
from services.run_store import PendingCheckpoint
from services.simulation.service_times import Draws, ResponseLengths, ServiceTimes
from services.skipped_step import SkippedStep
from services.snapshot import RunSnapshot
from services.virtual_time import virtual_clock
from services.workers import Workers
from shaping.checks import require
from shaping.config import RewardConfig
from shaping.evaluation.answers import GradedResponse
from shaping.groups import Drop, DropReason
from shaping.metrics import Metric
from shaping.records import GroupRequest, StopReason
from shaping.stored_files import StoredFile
from shaping.training import BucketLayout, CanaryAnswer, StepResult, WeightChannel, WeightLayout, WeightManifest

LAYOUT = WeightLayout(buckets=(BucketLayout(names=("w",), shapes=((1,),), dtype="float32", num_bytes=4),))
NOT_SIMULATED = "checkpoints are not simulated"
NOT_PAUSED = "nobody pauses a simulation"


class SimulatedRollout:
    """RolloutPort: decodes as many groups at a time as it has slots, first come, first served."""

    def __init__(
        self, worker_id: str, *, num_slots: int, decode_token_s: float, lengths: ResponseLengths, commit_s: Draws
    ) -> None:
        self.worker_id = worker_id
        self.num_slots = num_slots
        self.busy_slot_s = 0.0
        self._token_s = decode_token_s
        self._commit_s = commit_s
        self._lengths = lengths
        self._slots = asyncio.Semaphore(num_slots)
        self._policy_version = 0
        self._staged: int | None = None
        self._is_connected = False
        self._paused_s = 0.0
        self._paused_since: float | None = None

    async def start(self) -> EngineInfo:
        return EngineInfo(
            vocab_size=2,
            max_model_tokens=1,
            max_logprob_error=0.0,
            max_entropy_error=0.0,
            num_workers=1,
            description="simulated",
        )

    async def restart(self) -> None:
        self._policy_version, self._staged, self._is_connected = 0, None, False

    async def ping(self) -> int:
        return self._policy_version

    async def generate(self, request: GroupRequest) -> RoundHandle:
        lengths = self._lengths.at(request.seed, request.num_rollouts)
        async with self._slots:
            version, began = self._policy_version, virtual_clock()
            await self._decode(self._token_s * max(lengths))
            seconds = virtual_clock() - began
            self.busy_slot_s += seconds
        summary = GroupSummary(
            group_id=request.group_id,
            round_index=request.round_index,
            num_rollouts=request.num_rollouts,
            response_lengths=lengths,
            stop_reasons=(StopReason.EOS,) * request.num_rollouts,
            min_policy_version=version,
            max_policy_version=self._policy_version,
            entropy_total=0.0,
            num_response_tokens=sum(lengths),
            generation_s=seconds,
        )
        return RoundHandle(ref=request, summary=summary)

    async def _decode(self, seconds: float) -> None:
        """Wait for so long without the time in which the engine is paused."""
        while seconds > 0:
            paused = self._paused_until_now()
            await asyncio.sleep(seconds)
            seconds = self._paused_until_now() - paused

    def _paused_until_now(self) -> float:
        since = self._paused_since
        return self._paused_s + (virtual_clock() - since if since is not None else 0.0)

    async def connect_weights(self, channel: WeightChannel) -> None:
        require(1 <= channel.first_rank < channel.world_size, f"a receiver's rank must be in {channel}", self.worker_id)
        self._is_connected = True

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        require(self._is_connected and layout is LAYOUT, "weights must come by the open channel", self.worker_id)
        found = f"found {self._policy_version} and {policy_version}"
        require(policy_version > self._policy_version, f"a newer version must be staged, {found}", self.worker_id)
        self._staged = policy_version

    async def verify_weights(self, manifest: WeightManifest) -> None:
        wanted = manifest.policy_version
        require(self._staged == wanted, f"version {wanted} must be staged, found {self._staged}", self.worker_id)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        await self.verify_weights(manifest)
        self._paused_since = virtual_clock()
        await asyncio.sleep(self._commit_s.at(manifest.policy_version))
        self._policy_version, self._staged = manifest.policy_version, None
        await self.resume()

    async def discard_staged_weights(self) -> None:
        self._staged = None

    async def resume(self) -> None:
        self._paused_s, self._paused_since = self._paused_until_now(), None

    async def freeze(self) -> None:
        raise NotImplementedError(NOT_PAUSED)

    async def thaw(self) -> None:
        raise NotImplementedError(NOT_PAUSED)

    async def abort(self) -> None:
        raise NotImplementedError(NOT_PAUSED)

    async def release(self, memory: EngineMemory) -> None:
        raise NotImplementedError(f"{NOT_PAUSED}, and gives back no {memory}")

    async def wake(self, memory: EngineMemory) -> None:
        raise NotImplementedError(f"{NOT_PAUSED}, and takes back no {memory}")

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        no_logprobs = np.zeros(0, np.float32)
        no_ids = np.zeros(0, np.int32)
        return CanaryAnswer(
            prompt_ids=request.prompt_ids,
            response_ids=no_ids,
            behavior_logprobs=no_logprobs,
            temperature=request.sampling.temperature,
        )

    async def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapedMetrics:
    """What a shaping pipeline measures of a group that is kept, and of one that is not."""

    kept: dict[str, Metric]
    dropped: dict[str, Metric]


class SimulatedShaping:
    """ShapingPort: one group at a time; each is kept by chance."""

    def __init__(self, worker_id: str, times: ServiceTimes, metrics: ShapedMetrics, chances: Draws) -> None:
        self.worker_id = worker_id
        self.busy_s = 0.0
        self._prompt_tokens = times.prompt_tokens
        self._keep_share = times.keep_share
        self._chances = chances
        self._seconds = Draws(times.shaping_s, worker_id).in_turn()
        self._metrics = metrics
        self._turn = asyncio.Semaphore(1)

    async def start(self) -> None:
        """Nothing to load."""

    async def restart(self) -> None:
        """Nothing to forget."""

    async def ping(self) -> None:
        """Always there."""

    async def configure(self, recipe: Recipe) -> None:
        raise NotImplementedError(f"live changes are not simulated: {recipe.name}")

    async def score(self, round_handle: RoundHandle) -> RoundOutcome:
        size = round_handle.summary.num_rollouts
        return RoundOutcome(rewards=(1.0,) * (size // 2) + (0.0,) * (size - size // 2), num_correct=size // 2)

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        seconds = next(self._seconds)
        async with self._turn:
            await asyncio.sleep(seconds)
        self.busy_s += seconds
        request = rounds[0].ref
        assert isinstance(request, GroupRequest)
        is_kept = self._chances.at(request.seed) < self._keep_share
        lengths = [length for each in rounds for length in each.summary.response_lengths]
        samples = [
            SampleSize(
                group_index=0,
                sample_index=index,
                num_tokens=self._prompt_tokens + length,
                num_valid_tokens=length,
            )
            for index, length in enumerate(lengths if is_kept else ())
        ]
        summary = ShapedSummary(
            group_id=request.group_id,
            samples=tuple(samples),
            drop=None if is_kept else Drop(reason=DropReason.NO_SIGNAL),
            metrics=self._metrics.kept if is_kept else self._metrics.dropped,
            num_correct=len(lengths) // 2,
            num_scored=len(lengths),
            min_policy_version=min(each.summary.min_policy_version for each in rounds),
        )
        return ShapedHandle(ref=None, summary=summary)

    async def grade(self, round_handle: RoundHandle, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        raise NotImplementedError(f"{NOT_SIMULATED}: an evaluation by {reward.kind} of {round_handle.summary.group_id}")

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        raise NotImplementedError(f"{NOT_SIMULATED}: {len(groups)} groups for {file}")

    async def load_groups(self, file: str, num_groups: int) -> tuple[ShapedHandle, ...]:
        raise NotImplementedError(f"{NOT_SIMULATED}: {num_groups} groups of {file}")

    async def close(self) -> None:
        """Nothing to give back."""


class SimulatedLearner:
    """LearnerPort: as many tokens, so many seconds."""

    def __init__(self, times: ServiceTimes) -> None:
        self.staleness: list[int] = []
        self._token_s: Iterator[float] = Draws(times.train_token_s, "training").in_turn()
        self._transfer_s: Iterator[float] = Draws(times.transfer_s, "transfer").in_turn()
        self._policy_version = 0

    async def start(self) -> str:
        return "simulated"

    async def ping(self) -> None:
        """Always there."""

    async def configure(self, recipe: Recipe) -> None:
        raise NotImplementedError(f"live changes are not simulated: {recipe.name}")

    async def step(self, batch: tuple[ShapedHandle, ...], plan: BatchPlan, step: int) -> StepResult:
        require(step == self._policy_version, f"step {self._policy_version} must follow, got {step}", "learner")
        planned = [
            size
            for mini_batch in plan.mini_batches
            for rank in mini_batch.micro_batches
            for micro_batch in rank
            for size in micro_batch
        ]
        wanted = sum(len(each.summary.samples) for each in batch)
        whole_epochs = len(planned) % wanted == 0 if wanted else not planned
        require(whole_epochs, f"a plan must name {wanted} samples, got {len(planned)}", "learner")
        num_tokens = sum(size.num_tokens for size in planned)
        await asyncio.sleep(num_tokens * next(self._token_s))
        self.staleness += [step - each.summary.min_policy_version for each in batch]
        self._policy_version = step + 1
        return StepResult(
            policy_version=step + 1,
            num_updates=len(plan.mini_batches),
            num_valid_tokens=sum(each.num_valid_tokens for each in plan.mini_batches),
            metrics={"learner_tokens": float(num_tokens)},
        )

    async def weight_layout(self) -> WeightLayout:
        return LAYOUT

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        return WeightChannel(backend="memory", address="", port=0, world_size=1 + num_receivers)

    async def connect_weights(self, channel: WeightChannel) -> None:
        require(channel.first_rank == 0, f"the sender's rank must be 0, got {channel.first_rank}", "learner")

    async def send_weights(self, policy_version: int) -> WeightManifest:
        await asyncio.sleep(next(self._transfer_s))
        return WeightManifest(policy_version=policy_version, layout=LAYOUT, checksums=("0",))

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        del answers
        return 0.0

    async def save(self, directory: str) -> tuple[StoredFile, ...]:
        raise NotImplementedError(f"{NOT_SIMULATED}: {directory}")

    async def load(self, directory: str) -> None:
        raise NotImplementedError(f"{NOT_SIMULATED}: {directory}")

    async def export(self, directory: str) -> None:
        """There is nothing to export."""

    async def close(self) -> None:
        """Nothing to give back."""


@dataclass(slots=True)
class SimulatedControl:
    """ControlPort: keeps what is reported; nobody ever wants anything of the run."""

    steps: list[StepReport] = field(default_factory=list)
    events: list[RunEvent] = field(default_factory=list)

    async def report(self, report: ControlReport) -> None:
        if isinstance(report, StepReport):
            self.steps.append(report)
        elif isinstance(report, RunEvent):
            self.events.append(report)

    async def intent_after(self, generation: int) -> Intent:
        if generation:
            await asyncio.Event().wait()
        return Intent(generation=1, kind=IntentKind.RUN)


@dataclass(slots=True)
class SimulatedStore:
    """RunStore: refuses a group that ends twice; checkpoints are not simulated."""

    ended: set[int] = field(default_factory=set)

    def attach(self, learner: LearnerPort, control: ControlPort) -> None:
        """Nothing is saved."""
        del learner, control

    def keep(self, config: CheckpointConfig) -> None:
        """Nothing is kept."""
        del config

    def write_ledger(self, line: LedgerLine) -> None:
        require(line.ordinal not in self.ended, f"a group must end once, {line} ended before", "ledger")
        self.ended.add(line.ordinal)

    def begin(self, snapshot: RunSnapshot) -> PendingCheckpoint:
        raise NotImplementedError(f"{NOT_SIMULATED}: version {snapshot.version}")

    async def keep_skipped(self, skipped: SkippedStep, groups: tuple[ShapedHandle, ...], workers: Workers) -> str:
        del groups, workers
        raise NotImplementedError(f"no learner step is skipped in a simulation, got {skipped}")
