"""The receiving half of the weight transfer, inside vLLM's worker processes.

Peers are waited for and buckets arrive in threads, beside the live weights, while generation goes on; vLLM's own
weight-update API (start_weight_update, update_weights, finish_weight_update) then loads them from host memory.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from rollout.adapter import StartingWeights, whole_weights
from rollout.background import Background
from rollout.model_files import parameter_shapes
from rollout.process_group_receiver import ProcessGroupReceiver
from rollout.weight_staging import StagedWeights, receive_all
from shaping.training import WeightChannel, WeightLayout


@dataclass
class StagedUpdate(WeightTransferUpdateInfo):
    """Nothing travels with an update: the weights are staged already."""


class StagedWeightTransfer(WeightTransferEngine):
    """vLLM's weight-transfer engine with a staging phase of its own."""

    init_info_cls = WeightTransferInitInfo
    update_info_cls = StagedUpdate
    supports_draft_weight_update = False

    _joining: Background[ProcessGroupReceiver] | None = None
    _staging: Background[StagedWeights] | None = None
    _starting: StartingWeights | None = None
    _parameter_names: Set[str] = frozenset()

    def init_transfer_engine(self, init_info: WeightTransferInitInfo) -> None:
        """Not used: generation would stand still until every peer has joined."""
        raise NotImplementedError("weights are connected with `connect`")

    def connect(self, channel: WeightChannel, timeout_s: float) -> None:
        """Leave the channel and start joining another, in a thread."""
        self.shutdown()
        # Tied parameters count once here; during a reload vLLM gives each its own placeholder.
        self._parameter_names = {name for name, _ in self.model.named_parameters()}
        self._joining = Background(lambda: self._join(channel, timeout_s), name="join-weight-channel")

    def stage(self, layout: WeightLayout, policy_version: int, timeout_s: float) -> str:
        """Start receiving, in a thread. Returns what is wrong, or "" where it started."""
        receiver = None if self._joining is None else self._joining.result
        if receiver is None:
            return "weights must be connected before they are staged"
        self._staging = Background(
            lambda: self._receive(receiver, layout, policy_version, timeout_s), name="stage-weights"
        )
        return ""

    def progress(self) -> dict[str, Any]:
        """How far the last `connect` or `stage` is: see Background; `checksums` are empty until all buckets arrived."""
        work = self._staging or self._joining
        staged = None if self._staging is None else self._staging.result
        told = {"is_running": False, "failure": "", "is_broken": False} if work is None else work.progress()
        return {**told, "checksums": [] if staged is None else list(staged.checksums)}

    def discard(self) -> None:
        """Drop what is staged, and what a transfer under way will bring."""
        self._staging = None

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: StagedUpdate) -> None:
        """Load the staged weights into the model.

        Raises:
            RuntimeError: nothing staged, or a parameter of the model is not among them. vLLM would otherwise keep the
                old value of a layer that was not loaded.
        """
        del update_info
        staged = None if self._staging is None else self._staging.result
        self._staging = None
        if staged is None:
            raise RuntimeError("no weights are staged in this worker")
        loaded = self.model.load_weights(whole_weights(staged, self._starting))
        missing = sorted(self._parameter_names - loaded)
        if missing:
            raise RuntimeError(f"{len(missing)} parameters were not loaded: {missing[:5]}")

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type == "cpu":
            _repack_tied_heads(self.model)

    def shutdown(self) -> None:
        """Leave the channel. A thread that waits for a peer ends by itself and is not waited for."""
        receiver = None if self._joining is None else self._joining.result
        self._joining = self._staging = None
        if receiver is not None:
            receiver.close()

    def _join(self, channel: WeightChannel, timeout_s: float) -> ProcessGroupReceiver:
        self._use_device()
        index = self.parallel_config.rank
        return ProcessGroupReceiver(channel, worker_index=index, timeout_s=timeout_s, device=self.device)

    def _receive(
        self, receiver: ProcessGroupReceiver, layout: WeightLayout, policy_version: int, timeout_s: float
    ) -> StagedWeights:
        self._use_device()
        if layout.adapter is not None and self._starting is None:
            path = self.model_config.model
            self._starting = StartingWeights(path, parameter_shapes(path))
        return receive_all(receiver, layout, policy_version=policy_version, timeout_s=timeout_s)

    def _use_device(self) -> None:
        """The current device belongs to the thread."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)


def _repack_tied_heads(model: torch.nn.Module) -> None:
    """A tied head has no parameter of its own to load, so its packed copy for CPU kernels would stay the old one.

    Deviation: vLLM 0.32.0 repacks only layers whose own weights were loaded.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)
