"""Roles that answer from a script and check what they are asked: the orchestrator's ports without engine or learner.

A call of any method may be scripted: `fake.script["commit_weights"] = [EngineRefused("no"), None]` fails the first call
and lets the second pass; an asyncio.Event holds the call until the test sets it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fake_control import FakeControl, make_order
from report_builders import Clock
from scripted_calls import Scripted

from learner.batch_plan import BatchPlan, SampleSize
from rollout.engine import NO_VERSION, EngineInfo, EngineMemory
from rollout.request_gate import Owner, RequestGate
from rollout.worker import GroupSummary
from services.ports import RoundHandle, RoundOutcome, ShapedHandle, ShapedSummary
from services.recipe import Recipe
from shaping.config import RewardConfig
from shaping.errors import RoleDied, RolloutAborted
from shaping.evaluation.answers import GradedResponse
from shaping.groups import Drop, DropReason, VerdictStatus
from shaping.histograms import IMPORTANCE_RATIOS, REWARDS, Histogram
from shaping.metrics import Mean
from shaping.records import GroupRequest, StopReason
from shaping.stored_files import StoredFile
from shaping.training import BucketLayout, CanaryAnswer, StepResult, WeightChannel, WeightLayout, WeightManifest

__all__ = ["FakeControl", "FakeLearner", "FakeRollout", "FakeShaping", "Scripted", "make_order", "settle"]

LAYOUT = WeightLayout(buckets=(BucketLayout(names=("w",), shapes=((2,),), dtype="float32", num_bytes=8),))


class FakeRollout(Scripted):
    """RolloutPort: responses of `num_tokens` tokens; one script for its engine's weights."""

    def __init__(self, worker_id: str = "rollout-0", *, num_tokens: int = 3, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.worker_id = worker_id
        self.num_tokens = num_tokens
        self.policy_version = 0
        self.is_paused = False
        self.is_frozen = False
        self.released: EngineMemory | None = None
        self.gate = RequestGate()
        self.is_connected = False
        self.is_staged = False
        self.is_verified = False
        self.canary_error_nats = 0.0
        self.requests: list[GroupRequest] = []
        self.holds: dict[str, asyncio.Event] = {}
        self.holds_all = False
        self.fails: dict[str, BaseException] = {}
        self.running: list[str] = []

    async def start(self) -> EngineInfo:
        await self.called("start")
        return EngineInfo(
            vocab_size=100,
            max_model_tokens=64,
            max_logprob_error=0.0,
            max_entropy_error=0.0,
            num_workers=1,
            description="fake",
            can_release=tuple(EngineMemory),
        )

    async def restart(self) -> None:
        """A new engine with the starting weights; what the old one was asked is lost."""
        await self.called("restart")
        self.policy_version = 0
        self.is_paused = self.is_frozen = self.is_connected = self.is_staged = self.is_verified = False
        self.released = None
        old, self.gate = self.gate, RequestGate()
        old.abort()

    async def ping(self) -> int:
        await self.called("ping")
        return self.policy_version

    async def generate(self, request: GroupRequest) -> RoundHandle:
        assert self.released is None, "an engine without its memory was asked for rollouts"
        self.requests.append(request)
        gate = self.gate
        with gate.request() as under_way:
            while self.is_paused:
                # As in a real engine: what comes while weights are loaded begins afterwards.
                await asyncio.sleep(0)
            version = self.policy_version
            self.running.append(request.group_id)
            try:
                await under_way.unless_aborted(self._generated(request))
                await under_way.until_open()
            except RolloutAborted:
                if gate is self.gate:
                    raise
                raise RoleDied(role="rollout", cause="its process ended") from None
            finally:
                self.running.remove(request.group_id)
        lengths = (self.num_tokens,) * request.num_rollouts
        summary = GroupSummary(
            group_id=request.group_id,
            round_index=request.round_index,
            num_rollouts=request.num_rollouts,
            response_lengths=lengths,
            stop_reasons=(StopReason.EOS,) * request.num_rollouts,
            min_policy_version=version,
            max_policy_version=self.policy_version,
            entropy_total=0.0,
            num_response_tokens=sum(lengths),
            generation_s=1.0,
        )
        return RoundHandle(ref=request, summary=summary)

    async def _generated(self, request: GroupRequest) -> None:
        if self.holds_all:
            self.holds[request.group_id] = asyncio.Event()
        if request.group_id in self.holds:
            await self.holds[request.group_id].wait()
        if request.group_id in self.fails:
            raise self.fails.pop(request.group_id)
        await self.called("generate")

    async def freeze(self) -> None:
        await self.called("freeze")
        self.is_frozen = True
        self.gate.hold(Owner.USER)

    async def thaw(self) -> None:
        await self.called("thaw")
        self.is_frozen = False
        self.gate.let_go(Owner.USER)

    async def abort(self) -> None:
        await self.called("abort")
        self.gate.abort()

    async def release(self, memory: EngineMemory) -> None:
        assert not self.gate.num_requests, "memory is given back with no request under way"
        await self.called(f"release {memory}")
        self.released = memory
        if memory is EngineMemory.ROLLOUT_WEIGHTS:
            self.policy_version = NO_VERSION

    async def wake(self, memory: EngineMemory) -> None:
        await self.called(f"wake {memory}")
        if memory is EngineMemory.KV_CACHE:
            assert self.policy_version != NO_VERSION, "weights come before the KV cache"
            self.released = None

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self.called("connect_weights")
        assert 1 <= channel.first_rank < channel.world_size
        self.is_connected = True

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        assert self.is_connected and layout == LAYOUT
        assert policy_version > self.policy_version, "an engine that serves a version was sent it again"
        await self.called("stage_weights")
        self.is_staged = True

    async def verify_weights(self, manifest: WeightManifest) -> None:
        assert self.is_staged and manifest.layout == LAYOUT, "there must be staged weights to verify"
        await self.called("verify_weights")
        self.is_verified = True

    async def commit_weights(self, manifest: WeightManifest) -> None:
        assert self.is_staged and self.is_verified, "a commit needs staged and verified weights"
        assert manifest.policy_version > self.policy_version
        self.is_paused = True
        await self.called("commit_weights")
        self.is_paused = self.is_staged = self.is_verified = False
        self.policy_version = manifest.policy_version

    async def discard_staged_weights(self) -> None:
        await self.called("discard_staged_weights")
        self.is_staged = self.is_verified = False

    async def resume(self) -> None:
        await self.called("resume")
        self.is_paused = False

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        is_held = self.is_paused or self.is_frozen or self.released is not None
        assert not is_held, "the canary is asked for once an engine serves again"
        await self.called("canary")
        return CanaryAnswer(
            prompt_ids=request.prompt_ids,
            response_ids=np.array([7], dtype=np.int32),
            behavior_logprobs=np.array([self.canary_error_nats - 1.0], dtype=np.float32),
            temperature=request.sampling.temperature,
        )

    async def close(self) -> None:
        await self.called("close")


class FakeShaping(Scripted):
    """ShapingPort: two samples a group of 5 tokens, 3 of them trained; `drops` and `num_correct` by group id."""

    def __init__(self, worker_id: str = "shaping-0", *, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.worker_id = worker_id
        self.drops: Callable[[str], DropReason | None] = lambda _: None
        self.num_correct: Callable[[RoundHandle], int] = lambda _: 1
        self.num_decided: Callable[[RoundHandle], int] = lambda handle: handle.summary.num_rollouts
        self.shaped: list[tuple[RoundHandle, ...]] = []
        self.scored: list[RoundHandle] = []
        self.saved: dict[str, tuple[ShapedHandle, ...]] = {}
        self.recipe: Recipe | None = None

    async def start(self) -> None:
        await self.called("start")

    async def restart(self) -> None:
        await self.called("restart")

    async def ping(self) -> None:
        await self.called("ping")

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        await self.called("save_groups")
        self.saved[file] = groups
        return StoredFile(path=Path(file).name, num_bytes=0, sha256="0" * 64)

    async def load_groups(self, file: str, num_groups: int) -> tuple[ShapedHandle, ...]:
        await self.called("load_groups")
        assert len(self.saved[file]) == num_groups
        return self.saved[file]

    async def configure(self, recipe: Recipe) -> None:
        await self.called("configure")
        self.recipe = recipe

    async def score(self, round_handle: RoundHandle) -> RoundOutcome:
        await self.called("score")
        self.scored.append(round_handle)
        correct, decided = self.num_correct(round_handle), self.num_decided(round_handle)
        return RoundOutcome(rewards=(1.0,) * correct + (0.0,) * (decided - correct), num_correct=correct)

    async def grade(self, round_handle: RoundHandle, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        await self.called("grade")
        del reward
        summary = round_handle.summary
        correct, decided = self.num_correct(round_handle), self.num_decided(round_handle)
        return tuple(
            GradedResponse(
                response_text="",
                status=_status(index, correct, decided),
                extracted="",
                detail="",
                num_tokens=length,
                is_truncated=False,
                min_policy_version=summary.min_policy_version,
                max_policy_version=summary.max_policy_version,
            )
            for index, length in enumerate(summary.response_lengths)
        )

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        await self.called("shape")
        summaries = [each.summary for each in rounds]
        assert [each.round_index for each in summaries] == list(range(len(rounds)))
        group_id = summaries[0].group_id
        assert all(each.group_id == group_id for each in summaries)
        self.shaped.append(rounds)
        reason = self.drops(group_id)
        samples = [SampleSize(group_index=0, sample_index=i, num_tokens=5, num_valid_tokens=3) for i in range(2)]
        summary = ShapedSummary(
            group_id=group_id,
            samples=() if reason else tuple(samples),
            drop=Drop(reason=reason) if reason else None,
            metrics={"reward_total_value": Mean(1.0, 2), "reward_value": Histogram.of([0.0, 1.0], REWARDS)},
            num_correct=self.num_correct(rounds[-1]),
            num_scored=sum(each.num_rollouts for each in summaries),
            min_policy_version=min(each.min_policy_version for each in summaries),
        )
        return ShapedHandle(ref=group_id, summary=summary)

    async def close(self) -> None:
        await self.called("close")


def _status(index: int, num_correct: int, num_decided: int) -> VerdictStatus:
    """The first are correct, then those that are decided are wrong, and the rest timed out."""
    if index >= num_decided:
        return VerdictStatus.TIMED_OUT
    return VerdictStatus.CORRECT if index < num_correct else VerdictStatus.WRONG


class FakeLearner(Scripted):
    """LearnerPort: checks that a plan names exactly the samples of its batch, and that versions follow one another."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.policy_version = 0
        self.batches: list[tuple[str, ...]] = []
        self.staleness: list[int] = []
        self.plans: list[BatchPlan] = []
        self.exported_to = ""
        self.metrics = {"learner_loss": 0.5}
        self.histograms = {"learner_importance_ratio": Histogram.of([1.0], IMPORTANCE_RATIOS)}
        self.skips: dict[int, str] = {}
        self.recipe: Recipe | None = None

    async def start(self) -> str:
        await self.called("start")
        return "fake"

    async def configure(self, recipe: Recipe) -> None:
        await self.called("configure")
        self.recipe = recipe

    async def step(self, batch: tuple[ShapedHandle, ...], plan: BatchPlan, step: int) -> StepResult:
        assert step == self.policy_version, "steps must follow one another"
        wanted = {(index, size.sample_index) for index, each in enumerate(batch) for size in each.summary.samples}
        found = Counter(
            (size.group_index, size.sample_index)
            for mini_batch in plan.mini_batches
            for rank in mini_batch.micro_batches
            for micro_batch in rank
            for size in micro_batch
        )
        assert set(found) == wanted, "a plan must name every sample of its batch"
        assert len(set(found.values())) <= 1, "a plan must name every sample once an epoch"
        await self.called("step")
        self.staleness += [step - each.summary.min_policy_version for each in batch]
        self.batches.append(tuple(each.summary.group_id for each in batch))
        self.plans.append(plan)
        self.policy_version = step + 1
        return StepResult(
            policy_version=step + 1,
            num_updates=len(plan.mini_batches),
            num_valid_tokens=sum(each.num_valid_tokens for each in plan.mini_batches),
            metrics=dict(self.metrics) if plan.mini_batches and step not in self.skips else {},
            histograms=dict(self.histograms) if plan.mini_batches and step not in self.skips else {},
            skipped=self.skips.get(step, ""),
        )

    async def weight_layout(self) -> WeightLayout:
        await self.called("weight_layout")
        return LAYOUT

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        await self.called("open_channel")
        return WeightChannel(backend="memory", address="", port=0, world_size=1 + num_receivers)

    async def ping(self) -> None:
        await self.called("ping")

    async def connect_weights(self, channel: WeightChannel) -> None:
        assert channel.first_rank == 0
        await self.called("connect_weights")

    async def send_weights(self, policy_version: int) -> WeightManifest:
        await self.called("send_weights")
        return WeightManifest(policy_version=policy_version, layout=LAYOUT, checksums=("0",))

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        await self.called("score_canary")
        return max(abs(-1.0 - float(each.behavior_logprobs[0])) for each in answers)

    async def save(self, directory: str) -> tuple[StoredFile, ...]:
        assert directory
        await self.called("save")
        return ()

    async def load(self, directory: str) -> None:
        assert directory
        await self.called("load")

    async def export(self, directory: str) -> None:
        await self.called("export")
        self.exported_to = directory

    async def close(self) -> None:
        await self.called("close")


async def settle() -> None:
    """Let every task run until it waits for something that only the test can give."""
    for _ in range(200):
        await asyncio.sleep(0)
