"""One rank of the learner: samples in, a new policy version out, weights to the engines.

Blind to the algorithm: the objective is built from the recipe, and an engine holds parameters and optimizer. Every
method is collective: all ranks call it with the same arguments, except for the samples.
"""

import math
import time
from dataclasses import replace
from pathlib import Path

import torch
import xxhash

from learner.canary import canary_difference
from learner.config import LearnerConfig
from learner.device_use import begin_memory, device_peak_flops, memory_metrics, utilization_metrics
from learner.engine import TrainEngine
from learner.export import EXPORT_RULE, SHARD_BYTES, export_settings, export_weights
from learner.lora import adapter_layout
from learner.objective import build_objective
from learner.phase_clock import PhaseClock
from learner.state import learner_identity, load_state, save_state, together
from learner.updater import Updater
from learner.weight_sender import WeightSender, open_sender
from learner.weights import bucket_layout
from learner.work import LearnerInfo, StepWork
from shaping.bucket_header import BucketHeader, transfer_headers
from shaping.errors import ChannelBroken, RecipeError, RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.metrics import Max, Mean, Metric, Metrics, Sum, histograms_of, merge_metrics, metric_values
from shaping.schedules.base import Schedule
from shaping.scheduling import schedule_of
from shaping.stored_files import StoredFile
from shaping.training import CanaryAnswer, StepResult, WeightChannel, WeightLayout, WeightManifest


class Learner:
    """One rank. See `learner.torch_learner` and `learner.deepspeed_learner` for how it is made.

    Args:
        engine: holds parameters, gradients and optimizer of this rank.
        model_path: checkpoint of the starting policy.
        rank: of this process; rank 0 sends weights and writes files.
        weight_timeout_s: longest wait for the receivers of weights to join, and for one whole transfer.
    """

    def __init__(
        self,
        config: LearnerConfig,
        *,
        engine: TrainEngine,
        model_path: str,
        rank: int,
        weight_timeout_s: float = 600.0,
    ) -> None:
        self._config = config
        self._engine = engine
        self._model_path = model_path
        self._rank = rank
        self._weight_timeout_s = weight_timeout_s
        self._updater = Updater(engine, build_objective(config), config.layout)
        self._learning_rate = _learning_rate(config)
        self._sender: WeightSender | None = None
        # That the last step made; None before the first one, when what was loaded is not of a step of this process.
        self._policy_version: int | None = None

    def start(self) -> LearnerInfo:
        """Load the policy and join the other ranks.

        Raises:
            RecipeError: the model cannot be trained.
        """
        began = time.perf_counter()
        description = self._engine.start()
        if self._config.lora.rank:
            description += f", LoRA of rank {self._config.lora.rank}"
        self._identity = learner_identity(self._config, self._model_path)
        self._num_parameters = sum(math.prod(each.shape) for each in self._engine.parameters())
        self._peak_flops = device_peak_flops(self._engine.device, self._config.dtype)
        return LearnerInfo(
            num_parameters=self._num_parameters,
            description=description,
            seconds=time.perf_counter() - began,
        )

    def step(self, work: StepWork) -> StepResult:
        """Train one batch: its mini-batches in order.

        An update whose loss or gradient is not finite is not taken, on any rank, and neither are the later ones of the
        step; parameters and optimizer are as before it, and the step still makes the next version.

        Raises:
            RunFailed: the samples are not the planned ones.
        """
        self._policy_version = work.policy_version + 1
        began, clock = time.perf_counter(), PhaseClock(self._engine.device)
        begin_memory(self._engine.device)
        learning_rate = self._learning_rate.value(work.step)
        metrics: list[dict[str, Metric]] = []
        old = self._updater.old_logprobs(work, clock)
        for index in range(len(work.mini_batches)):
            found = self._updater.accumulate(work, index, old[index], clock)
            if found.not_finite:
                return _result(work, index, {}, skipped=found.not_finite)
            with clock.phase("optimizer"):
                self._engine.update(learning_rate)
            metrics += found.metrics
            if self._rank == 0:
                norm = Mean(found.grad_norm, 1)
                metrics.append({"learner_grad_norm": norm, "learner_learning_rate": Mean(learning_rate, 1)})
        metrics.append({f"learner_{name}_s": Max(seconds) for name, seconds in clock.seconds.items()})
        own = merge_metrics(metrics)
        own |= self._device_metrics(own, time.perf_counter() - began)
        return _result(work, len(work.mini_batches), merge_metrics(self._engine.gather_objects(own)))

    def _device_metrics(self, own: Metrics, seconds: float) -> dict[str, Metric]:
        """Of this rank's device, for a step that took so long."""
        # Absent in a step without updates.
        tokens = own.get("learner_tokens", Sum(0.0))
        return memory_metrics(self._engine.device) | utilization_metrics(
            self._config,
            num_parameters=self._num_parameters,
            num_tokens=tokens.value or 0.0,
            seconds=seconds,
            peak=self._peak_flops,
        )

    def configure(self, config: LearnerConfig) -> None:
        """Go on with other options of the objective, another learning rate or gradient norm, from the next step on.

        Raises:
            RecipeError: something else differs, or an option cannot be; nothing has changed then.
        """
        _check_configurable(self._config, config)
        objective, learning_rate = build_objective(config), _learning_rate(config)
        self._engine.limit_grad_norm(config.optimizer.max_grad_norm)
        self._updater = Updater(self._engine, objective, config.layout)
        self._config, self._learning_rate = config, learning_rate

    def weight_layout(self) -> WeightLayout:
        """The buckets in which weights travel; the same on every rank and for the whole run."""
        lora = self._config.lora
        if lora.rank and lora.publish == "adapter":
            pairs = self._engine.adapter_parameters()
            return bucket_layout(pairs, self._config.bucket_bytes, adapter=adapter_layout(lora))
        return bucket_layout(self._engine.parameters(), self._config.bucket_bytes)

    def connect_weights(self, channel: WeightChannel, memory: MemoryChannel | None = None) -> None:
        """Meet the engines; an earlier channel is left. Rank 0 blocks until all have joined, other ranks do nothing.

        Raises:
            ChannelBroken: a receiver did not join in time.
        """
        self._leave_channel()
        if self._rank == 0:
            self._sender = open_sender(channel, memory, self._weight_timeout_s)

    def send_weights(self, policy_version: int) -> WeightManifest:
        """Gather and send bucket by bucket; the whole model is never on one rank.

        Raises:
            ChannelBroken: not connected, or a receiver is gone; the channel is left.
            RunFailed: the last step made another version.
        """
        if self._policy_version not in (None, policy_version):
            cause = f"weights of version {policy_version} were asked for, the last step made {self._policy_version}"
            raise RunFailed(role="learner", cause=cause)
        layout = self.weight_layout()
        ends_at = time.monotonic() + self._weight_timeout_s
        checksums = []
        broken: ChannelBroken | None = None
        headers = transfer_headers(layout, policy_version)
        for header, bucket in zip(headers[:-1], layout.buckets, strict=True):
            with self._engine.gathered(bucket.names) as tensors:
                # Gathering is collective: it goes on for the other ranks when there is nobody left to send to.
                if self._rank != 0 or broken is not None:
                    checksums.append("")
                    continue
                data = torch.cat([tensor.contiguous().view(torch.uint8).flatten() for tensor in tensors])
            checksums.append(xxhash.xxh3_64_hexdigest(data.cpu().numpy()))
            broken = self._send(header, data, ends_at)
        if self._rank == 0 and broken is None:
            broken = self._send(headers[-1], None, ends_at)
        if broken is not None:
            raise broken
        return WeightManifest(policy_version=policy_version, layout=layout, checksums=tuple(checksums))

    def _send(self, header: BucketHeader, data: torch.Tensor | None, ends_at: float) -> ChannelBroken | None:
        """Send one bucket; what is wrong with the channel, which is then left."""
        try:
            if self._sender is None:
                raise ChannelBroken("weights were sent before a channel was connected")
            self._sender.send(header, data, ends_at - time.monotonic())
        except ChannelBroken as error:
            self._leave_channel()
            return error
        return None

    def _leave_channel(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        """Largest |learner - engine| log-prob over the answers' tokens, nats; answers must be of the weights held."""
        return canary_difference(self._engine, answers, self._config.layout)

    def export(self, directory: str | Path) -> None:
        """Write a Hugging Face checkpoint. Rank 0 writes; its host holds one shard at a time.

        Raises:
            CheckpointError: a file could not be written; on every rank.
        """
        path, writes, gather = Path(directory), self._rank == 0, self._engine.gather_objects
        settings = (path, self._model_path, self._config.dtype)
        together(gather, lambda: export_settings(*settings) if writes else None, EXPORT_RULE)
        layout = bucket_layout(self._engine.parameters(), SHARD_BYTES)
        together(gather, lambda: export_weights(path, layout, self._engine.gathered, writes=writes), EXPORT_RULE)

    def save(self, directory: str | Path) -> tuple[StoredFile, ...]:
        """Write what `load` needs to go on bit for bit, to stable storage; every rank writes and hashes its part.

        Args:
            directory: seen by all ranks; empty, or to be made. Nothing outside it changes.
        Returns:
            All files, relative to `directory`; the same on every rank.
        Raises:
            CheckpointError: a file could not be written; on every rank.
        """
        return save_state(self._engine, self._identity, Path(directory), self._rank)

    def load(self, directory: str | Path) -> None:
        """Restore what `save` wrote, into a started learner that has not trained.

        With as many ranks as saved it goes on bit for bit. ZeRO-3 also takes what another number of ranks saved:
        parameters and optimizer are then the same bits, sums over ranks round differently.

        Raises:
            CheckpointError: partial, or not of this engine, dtype, starting model or adapters; on every rank.
        """
        load_state(self._engine, self._identity, Path(directory), self._rank)

    def close(self) -> None:
        """Leave the group. Harmless when repeated."""
        self._leave_channel()
        self._engine.close()


def _learning_rate(config: LearnerConfig) -> Schedule:
    return schedule_of(config.optimizer.learning_rate, "learner.optimizer.learning_rate")


def _check_configurable(now: LearnerConfig, wanted: LearnerConfig) -> None:
    """Refuse what a learner is built with; its objective and the size of its updates are all that it can change."""
    reachable = replace(
        now,
        loss=wanted.loss,
        token_plans=wanted.token_plans,
        regularisers=wanted.regularisers,
        correction=wanted.correction,
        kl=wanted.kl,
        optimizer=replace(
            now.optimizer,
            learning_rate=wanted.optimizer.learning_rate,
            max_grad_norm=wanted.optimizer.max_grad_norm,
        ),
    )
    if reachable != wanted:
        raise RecipeError("a learner that trains can change its objective, learning rate and gradient norm alone")
    if wanted.kl.coefficient and not now.kl.coefficient:
        raise RecipeError(
            f"learner.kl.coefficient must stay 0 where the learner began with 0, got {wanted.kl.coefficient:g}: no "
            "reference model is loaded (learner.kl.coefficient)"
        )


def _result(work: StepWork, num_updates: int, metrics: Metrics, *, skipped: str = "") -> StepResult:
    return StepResult(
        policy_version=work.policy_version + 1,
        num_updates=num_updates,
        num_valid_tokens=sum(each.num_valid_tokens for each in work.mini_batches[:num_updates]),
        metrics=metric_values(metrics),
        histograms=histograms_of(metrics),
        skipped=skipped,
    )
