"""The receiving half of the weight transfer, inside vLLM's worker processes.

Buckets arrive in a thread, beside the live weights, while generation goes on; vLLM's own weight-update API
(start_weight_update, update_weights, finish_weight_update) then loads them from host memory.
"""

import threading
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

from rollout.process_group_receiver import ProcessGroupReceiver
from rollout.weight_staging import StagedWeights, receive_all, unpack
from shaping.training import WeightChannel, WeightLayout


@dataclass
class ChannelInfo(WeightTransferInitInfo):
    """Where to meet the sender: the fields of a WeightChannel, since no class crosses vLLM's process border."""

    backend: str
    address: str
    port: int
    world_size: int
    first_rank: int
    timeout_s: float


@dataclass
class StagedUpdate(WeightTransferUpdateInfo):
    """Nothing travels with an update: the weights are staged already."""


class StagedWeightTransfer(WeightTransferEngine):
    """vLLM's weight-transfer engine with a staging phase of its own."""

    init_info_cls = ChannelInfo
    update_info_cls = StagedUpdate
    supports_draft_weight_update = False

    _receiver: ProcessGroupReceiver | None = None
    _thread: threading.Thread | None = None
    _staged: StagedWeights | None = None
    _failure: str = ""
    _parameter_names: Set[str] = frozenset()

    def init_transfer_engine(self, init_info: ChannelInfo) -> None:
        channel = WeightChannel(
            backend=init_info.backend,
            address=init_info.address,
            port=init_info.port,
            world_size=init_info.world_size,
            first_rank=init_info.first_rank,
        )
        self._receiver = ProcessGroupReceiver(
            channel,
            worker_index=self.parallel_config.rank,
            timeout_s=init_info.timeout_s,
            device=self.device,
        )
        # Tied parameters count once here; during a reload vLLM gives each its own placeholder.
        self._parameter_names = {name for name, _ in self.model.named_parameters()}

    def stage(self, layout: WeightLayout) -> str:
        """Start receiving in a thread. Returns what is wrong, or "" where it started."""
        if self._receiver is None:
            return "weights must be connected before they are staged"
        if self._thread is not None and self._thread.is_alive():
            return "the previous transfer must end before the next is staged"
        self._staged, self._failure = None, ""
        self._thread = threading.Thread(
            target=self._receive, args=(self._receiver, layout), name="stage-weights", daemon=True
        )
        self._thread.start()
        return ""

    def staging(self) -> dict[str, Any]:
        """How far staging is: `is_running`, `failure` ("" for none) and `checksums` (empty until all arrived)."""
        staged = self._staged
        return {
            "is_running": self._thread is not None and self._thread.is_alive(),
            "failure": self._failure,
            "checksums": [] if staged is None else list(staged.checksums),
        }

    def discard(self) -> None:
        """Drop what is staged. A transfer under way ends by itself and is dropped by the next `stage`."""
        self._staged = None

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: StagedUpdate) -> None:
        """Load the staged weights into the model.

        Raises:
            RuntimeError: nothing staged, or a parameter of the model is not among them. vLLM would otherwise keep the
                old value of a layer that was not loaded.
        """
        del update_info
        staged, self._staged = self._staged, None
        if staged is None:
            raise RuntimeError("no weights are staged in this worker")
        loaded = self.model.load_weights(unpack(staged))
        missing = sorted(self._parameter_names - loaded)
        if missing:
            raise RuntimeError(f"{len(missing)} parameters were not loaded: {missing[:5]}")

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type == "cpu":
            _repack_tied_heads(self.model)

    def shutdown(self) -> None:
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    def _receive(self, receiver: ProcessGroupReceiver, layout: WeightLayout) -> None:
        try:
            if self.device.type == "cuda":
                # The current device belongs to the thread.
                torch.cuda.set_device(self.device)
            self._staged = receive_all(receiver, layout)
        except Exception as error:  # a thread's border: the engine asks for the failure with `staging`
            self._failure = f"{type(error).__name__}: {error}".splitlines()[0]


def _repack_tied_heads(model: torch.nn.Module) -> None:
    """A tied head has no parameter of its own to load, so its packed copy for CPU kernels would stay the old one.

    Deviation: vLLM 0.32.0 repacks only layers whose own weights were loaded.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)
