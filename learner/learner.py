"""One rank of the learner: samples in, a new policy version out, weights to the engines.

Blind to the algorithm: the objective is built from the recipe, and an engine holds parameters and optimizer. Every
method is collective: all ranks call it with the same arguments, except for the samples.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
import xxhash

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig
from learner.engine import TrainEngine
from learner.export import SHARD_BYTES, export_settings, export_weights
from learner.mismatch import mismatch_metrics
from learner.objective import (
    UpdateCounts,
    build_objective,
    combine_weights,
    micro_batch_loss,
    plan_weights,
    trained_signals,
)
from learner.schedules import schedule_of
from learner.token_plans.base import Scope, TokenWeights
from learner.weight_sender import WeightSender, open_sender
from learner.weights import bucket_layout
from learner.work import LearnerInfo, MiniBatchWork, StepWork
from shaping.errors import RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.metrics import Max, Mean, Metric, Sum, merge_metrics, metric_values
from shaping.records import EntropySource
from shaping.training import StepResult, WeightChannel, WeightLayout, WeightManifest

STATE_FILE = "learner.json"


class Learner:
    """One rank. See `learner.torch_learner` and `learner.deepspeed_learner` for how it is made.

    Args:
        engine: holds parameters, gradients and optimizer of this rank.
        model_path: checkpoint of the starting policy.
        rank: of this process; rank 0 sends weights and writes files.
        timeout_s: longest wait for the receivers of weights.
    """

    def __init__(
        self, config: LearnerConfig, *, engine: TrainEngine, model_path: str, rank: int, timeout_s: float = 600.0
    ) -> None:
        self._config = config
        self._engine = engine
        self._model_path = model_path
        self._rank = rank
        self._timeout_s = timeout_s
        self._objective = build_objective(config)
        self._learning_rate = schedule_of(config.optimizer.learning_rate, "learner.optimizer.learning_rate")
        self._sender: WeightSender | None = None

    def start(self) -> LearnerInfo:
        """Load the policy and join the other ranks.

        Raises:
            RecipeError: the model cannot be trained.
        """
        began = time.perf_counter()
        description = self._engine.start()
        return LearnerInfo(
            num_parameters=sum(math.prod(each.shape) for each in self._engine.parameters()),
            description=description,
            seconds=time.perf_counter() - began,
        )

    def step(self, work: StepWork) -> StepResult:
        """Train one batch: its mini-batches in order.

        Raises:
            RunFailed: a loss or gradient is not finite; no rank has then taken that update.
        """
        clock = PhaseClock()
        learning_rate = self._learning_rate.value(work.step)
        metrics: list[dict[str, Metric]] = []
        for index, mini_batch in enumerate(work.mini_batches):
            metrics += self._accumulate(work, index, mini_batch, clock)
            with clock.phase("optimizer"):
                norm = self._engine.grad_norm()
                if not math.isfinite(norm):
                    self._refuse(f"the gradient norm is {norm}", work, index)
                self._engine.update(learning_rate)
            if self._rank == 0:
                metrics.append({"learner_grad_norm": Mean(norm, 1), "learner_learning_rate": Mean(learning_rate, 1)})
        metrics.append({f"learner_{name}_s": Max(seconds) for name, seconds in clock.seconds.items()})
        merged = merge_metrics(self._engine.gather_objects(merge_metrics(metrics)))
        return StepResult(
            policy_version=work.policy_version + 1,
            num_updates=len(work.mini_batches),
            num_valid_tokens=sum(each.num_valid_tokens for each in work.mini_batches),
            metrics=metric_values(merged),
        )

    def _accumulate(
        self, work: StepWork, index: int, mini_batch: MiniBatchWork, clock: "PhaseClock"
    ) -> list[dict[str, Metric]]:
        """Gradients of one update over its micro-batches."""
        batches = [collate(samples, self._config.layout) for samples in mini_batch.micro_batches]
        counts = self._counts(work, index, mini_batch, batches)
        plans = self._update_plans(work, batches, clock)
        metrics: list[dict[str, Metric]] = []
        losses = []
        for position, collated in enumerate(batches):
            batch = collated.to(self._engine.device)
            with clock.phase("forward"):
                scores = self._score(work, batch, with_gradient=True)
                reference = None
                if self._config.kl.coefficient > 0:
                    reference = self._engine.reference_logprobs(batch, temperature=work.temperature)
                weights = self._token_weights(batch, scores, plans[position])
                loss, counted = micro_batch_loss(self._objective, batch, scores, reference, weights, counts, work.step)
            with clock.phase("backward"):
                self._engine.backward(loss, is_last=position == len(batches) - 1)
            losses.append(loss.detach())
            metrics.append(counted)
            if index == 0:
                metrics.append(mismatch_metrics(batch, scores))
        share = float(torch.stack(losses).sum())
        shares = self._engine.gather_objects(share)
        if not all(math.isfinite(each) for each in shares):
            self._refuse(f"the loss is {sum(shares)}", work, index)
        metrics.append(_size_metrics(batches))
        return metrics

    def _score(self, work: StepWork, batch: Microbatch, *, with_gradient: bool) -> torch.Tensor:
        raw = work.entropy_source is EntropySource.RAW
        return self._engine.score(
            batch,
            temperature=work.temperature,
            entropy_temperature=1.0 if raw else work.temperature,
            differentiable_entropies=self._objective.differentiable_entropies and with_gradient,
            with_gradient=with_gradient,
        )

    def _counts(self, work: StepWork, index: int, mini_batch: MiniBatchWork, batches: list[Microbatch]) -> UpdateCounts:
        mine = (
            len(batches),
            sum(int(batch.loss_mask.sum()) for batch in batches),
            sum(int(batch.hint_mask.sum()) for batch in batches),
        )
        ranks = self._engine.gather_objects(mine)
        num_valid = sum(valid for _, valid, _ in ranks)
        if len({number for number, _, _ in ranks}) != 1 or not batches:
            self._refuse(
                f"all ranks must have the same number of micro-batches, got {[r[0] for r in ranks]}", work, index
            )
        if num_valid != mini_batch.num_valid_tokens:
            planned = mini_batch.num_valid_tokens
            self._refuse(f"the samples hold {num_valid} trained tokens, the plan says {planned}", work, index)
        return UpdateCounts(num_valid_tokens=num_valid, num_hint_tokens=sum(hints for _, _, hints in ranks))

    def _update_plans(
        self, work: StepWork, batches: list[Microbatch], clock: "PhaseClock"
    ) -> list[dict[int, TokenWeights]]:
        """Per micro-batch, what each token plan of scope UPDATE decided, by the plan's position."""
        found: list[dict[int, TokenWeights]] = [{} for _ in batches]
        if not self._objective.plans_whole_updates:
            return found
        with clock.phase("plan"):
            signals = []
            for collated in batches:
                batch = collated.to(self._engine.device)
                signals.append(trained_signals(batch, self._score(work, batch, with_gradient=False)))
            widths = [each.shape[1] for each in signals]
            joined, start = self._engine.gather_tokens(torch.cat(signals, dim=1))
            for position, plan in enumerate(self._objective.token_plans):
                if plan.scope is Scope.UPDATE:
                    whole = plan_weights(plan, joined)
                    offset = start
                    for each, width in zip(found, widths, strict=True):
                        each[position] = _slice_weights(whole, offset, offset + width)
                        offset += width
        return found

    def _token_weights(self, batch: Microbatch, scores: torch.Tensor, decided: dict[int, TokenWeights]) -> TokenWeights:
        plans = self._objective.token_plans
        signals = trained_signals(batch, scores)
        parts = [
            decided[position] if position in decided else plan_weights(plan, signals)
            for position, plan in enumerate(plans)
        ]
        return combine_weights(tuple(parts), signals.shape[1], signals.device)

    def _refuse(self, found: str, work: StepWork, index: int) -> NoReturn:
        self._engine.discard_gradient()
        where = f"step {work.step}, update {index + 1} of {len(work.mini_batches)}"
        raise RunFailed(role="learner", cause=f"{found} in {where}; the update was not taken")

    def weight_layout(self) -> WeightLayout:
        """The buckets in which weights travel; the same on every rank and for the whole run."""
        return bucket_layout(self._engine.parameters(), self._config.bucket_bytes)

    def connect_weights(self, channel: WeightChannel, memory: MemoryChannel | None = None) -> None:
        """Meet the engines. Rank 0 blocks until every receiver has joined; other ranks have nothing to do.

        Raises:
            RunFailed: a receiver did not join in time.
        """
        if self._rank == 0:
            self._sender = open_sender(channel, memory, self._timeout_s)

    def send_weights(self, policy_version: int) -> WeightManifest:
        """Gather and send bucket by bucket; the whole model is never on one rank.

        Raises:
            RunFailed: not connected, or a receiver is gone.
        """
        layout = self.weight_layout()
        checksums = []
        for index, bucket in enumerate(layout.buckets):
            with self._engine.gathered(bucket.names) as tensors:
                data = None
                if self._rank == 0:
                    data = torch.cat([tensor.contiguous().view(torch.uint8).flatten() for tensor in tensors])
            if data is None:
                checksums.append("")
                continue
            if self._sender is None:
                raise RunFailed(role="learner", cause="weights were sent before the channel was connected")
            checksums.append(xxhash.xxh3_64_hexdigest(data.cpu().numpy()))
            self._sender.send(index, data)
        return WeightManifest(policy_version=policy_version, layout=layout, checksums=tuple(checksums))

    def export(self, directory: str | Path) -> None:
        """Write a Hugging Face checkpoint. Rank 0 writes; its host holds one shard at a time."""
        path = Path(directory)
        if self._rank == 0:
            path.mkdir(parents=True, exist_ok=True)
            export_settings(path, self._model_path, self._config.dtype)
        layout = bucket_layout(self._engine.parameters(), SHARD_BYTES)
        export_weights(path, layout, self._engine.gathered, writes=self._rank == 0)
        self._engine.gather_objects(None)

    def save(self, directory: str | Path) -> None:
        """Write what `load` needs to go on bit for bit. All ranks write their part."""
        path = Path(directory)
        if self._rank == 0:
            path.mkdir(parents=True, exist_ok=True)
            (path / STATE_FILE).write_text(json.dumps(self._state()))
        self._engine.gather_objects(None)
        self._engine.save(path)
        self._engine.gather_objects(None)

    def load(self, directory: str | Path) -> None:
        """Restore what `save` wrote, into a started learner of the same engine, ranks and dtype.

        Raises:
            RunFailed: no such state, or one of another shape.
        """
        path = Path(directory) / STATE_FILE
        if not path.exists():
            raise RunFailed(role="learner", cause=f"a saved learner must hold {STATE_FILE}, none in {directory}")
        saved = json.loads(path.read_text())
        if saved != self._state():
            raise RunFailed(
                role="learner", cause=f"saved learner {saved} cannot be loaded as {self._state()} ({directory})"
            )
        self._engine.load(Path(directory))

    def _state(self) -> dict[str, str | int]:
        return {"engine": self._config.engine, "num_ranks": self._config.num_ranks, "dtype": self._config.dtype}

    def close(self) -> None:
        """Leave the group. Harmless when repeated."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        self._engine.close()


class PhaseClock:
    """Wall seconds per phase of one step, summed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began


def _slice_weights(whole: TokenWeights, start: int, stop: int) -> TokenWeights:
    return TokenWeights(
        weights=whole.weights[start:stop],
        clip_low=None if whole.clip_low is None else whole.clip_low[start:stop],
        clip_high=None if whole.clip_high is None else whole.clip_high[start:stop],
    )


def _size_metrics(batches: list[Microbatch]) -> dict[str, Metric]:
    num_tokens = sum(batch.num_tokens for batch in batches)
    num_padding = sum(batch.num_padding_tokens for batch in batches)
    return {
        "learner_tokens": Sum(num_tokens),
        "learner_padding_share": Mean(num_padding, num_tokens + num_padding),
    }
