"""What vLLM's worker processes can be asked beside vLLM's own calls: named in `worker_extension_cls`.

Importing it registers the weight transfer; vLLM imports it in every worker before the model is built. Answers are plain
data, since an exception would cross the process border without its type.
"""

from collections.abc import Mapping
from typing import Any

from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from rollout.vllm_sampler import add_entropies, missing_names
from rollout.vllm_terms import WEIGHT_BACKEND
from rollout.vllm_weights import StagedWeightTransfer
from rollout.weight_checks import layout_from_plain
from shaping.training import WeightChannel


class RolloutExtension:
    """Mixed into vLLM's Worker; `lessrl_` keeps its names apart."""

    model_runner: Any
    weight_transfer_engine: StagedWeightTransfer

    def lessrl_use_stock_logprobs(self, *, raw: bool) -> str:
        """Switch the stock sampler between the model's log-probs and those of the distribution sampled from.

        Returns:
            What is wrong, or "".
        """
        sampler = self.model_runner.sampler
        missing = missing_names(sampler)
        if missing:
            return f"{type(sampler).__name__} lacks {', '.join(missing)}"
        mode = "raw_logprobs" if raw else "processed_logprobs"
        sampler.logprobs_mode = mode
        if hasattr(sampler, "topk_topp_sampler"):
            sampler.topk_topp_sampler.logprobs_mode = mode
        return ""

    def lessrl_add_entropies(self, *, raw: bool) -> tuple[str, str]:
        """Teach the sampler entropies. Returns the model runner ("v1", "v2") and what is wrong, or ""."""
        try:
            return add_entropies(self.model_runner.sampler, raw=raw), ""
        except TypeError as error:
            return "", str(error)

    def lessrl_connect_weights(self, *, channel: Mapping[str, Any], timeout_s: float) -> None:
        """Start joining; `channel` is a plain WeightChannel."""
        self.weight_transfer_engine.connect(WeightChannel(**channel), timeout_s)

    def lessrl_stage_weights(self, *, layout: Mapping[str, Any], policy_version: int, timeout_s: float) -> str:
        """Start receiving; `layout` is a plain WeightLayout. Returns what is wrong, or ""."""
        return self.weight_transfer_engine.stage(layout_from_plain(layout), policy_version, timeout_s)

    def lessrl_weights_progress(self) -> dict[str, Any]:
        return self.weight_transfer_engine.progress()

    def lessrl_discard_staged_weights(self) -> None:
        self.weight_transfer_engine.discard()


WeightTransferEngineFactory.register_engine(WEIGHT_BACKEND, StagedWeightTransfer)
