"""One rank of the learner: samples in, a new policy version out, weights to the engines.

Blind to the algorithm: the objective is built from the recipe, and an engine holds parameters and optimizer. Every
method is collective: all ranks call it with the same arguments, except for the samples.
"""

import json
import math
import time
from pathlib import Path

import torch
import xxhash

from learner.config import LearnerConfig
from learner.engine import TrainEngine
from learner.export import SHARD_BYTES, export_settings, export_weights
from learner.objective import build_objective
from learner.phase_clock import PhaseClock
from learner.updater import Updater
from learner.weight_sender import WeightSender, open_sender
from learner.weights import bucket_layout
from learner.work import LearnerInfo, StepWork
from shaping.errors import RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.metrics import Max, Mean, Metric, merge_metrics, metric_values
from shaping.scheduling import schedule_of
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
        self._updater = Updater(engine, build_objective(config), config.layout)
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
        clock = PhaseClock(self._engine.device)
        learning_rate = self._learning_rate.value(work.step)
        metrics: list[dict[str, Metric]] = []
        for index, mini_batch in enumerate(work.mini_batches):
            metrics += self._updater.accumulate(work, index, mini_batch, clock)
            with clock.phase("optimizer"):
                norm = self._updater.finite_grad_norm(work, index)
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
