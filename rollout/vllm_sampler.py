"""vLLM's samplers, taught to report the entropy of every sampled token. Runs inside vLLM's worker processes.

The log-prob stream of a request (`logprobs=1`, flat) has two columns per token: the sampled token, then the most likely
one. Column 1 is replaced by the entropy, so that alignment, parallel sampling and process borders stay vLLM's own.
Column 0 is the log-prob under the distribution sampled from. The V1 sampler hands on the logits it sampled from instead
of a table of log-probs: one reading of them gives both columns.

Both classes are put over a live sampler by setting its `__class__`: they add no state but what one step needs.
Names of vLLM 0.32.0 that are not public: see `missing_names`.
"""

from typing import Any

import torch
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.sample.sampler import Sampler
from vllm.v1.worker.gpu.sample.sampler import Sampler as SamplerV2

from rollout.softmax_rows import softmax_rows


def write_entropies(tensors: LogprobsTensors, entropies: torch.Tensor) -> None:
    """Put [n] entropies into column 1 of [n, 1 + k] log-probs, k >= 1; its token id becomes 0."""
    tensors.logprobs[:, 1] = entropies
    tensors.logprob_token_ids[:, 1] = 0


class EntropySampler(Sampler):
    """Sampler of the V1 model runner, with entropies."""

    reports_raw_entropies: bool
    _raw_entropies: torch.Tensor | None

    def forward(self, logits: torch.Tensor, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        # Before super(): float32 logits are scaled and masked in place.
        wanted = self.reports_raw_entropies and sampling_metadata.max_num_logprobs is not None
        self._raw_entropies = softmax_rows(logits)[1] if wanted else None
        output = super().forward(logits, sampling_metadata, *args, **kwargs)
        self._raw_entropies = None
        return output

    def gather_logprobs(self, logits: torch.Tensor, num_logprobs: int, token_ids: torch.Tensor) -> LogprobsTensors:
        """Column 0: log-prob of `token_ids` [n] under the softmax of `logits` [n, V]; column 1: entropy.

        Replaces the stock gather, whose rank count is compiled on first use. Ranks are not measured.
        """
        size = (logits.shape[0], 1 + num_logprobs)
        tensors = LogprobsTensors(
            logprob_token_ids=torch.zeros(size, dtype=torch.int32, device=logits.device),
            logprobs=torch.zeros(size, dtype=torch.float32, device=logits.device),
            selected_token_ranks=torch.zeros(size[0], dtype=torch.int64, device=logits.device),
        )
        normalisers, entropies = softmax_rows(logits)
        tensors.logprob_token_ids[:, 0] = token_ids
        tensors.logprobs[:, 0] = logits.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1) - normalisers
        if num_logprobs >= 1:
            write_entropies(tensors, entropies if self._raw_entropies is None else self._raw_entropies)
        return tensors


class EntropyColumnV2:
    """What the V2 model runner's sampler is given beside its own; apart, so that it runs without a GPU."""

    reports_raw_entropies: bool
    _processed_entropies: torch.Tensor | None

    def __call__(self, logits: torch.Tensor, input_batch: Any) -> Any:
        # Before super(): top-k and top-p may mask the logits in place.
        raw = softmax_rows(logits)[1] if self.reports_raw_entropies else None
        self._processed_entropies = None
        output = super().__call__(logits, input_batch)  # type: ignore[misc]
        entropies = self._processed_entropies if raw is None else raw
        if output.logprobs_tensors is not None and entropies is not None:
            write_entropies(output.logprobs_tensors, entropies)
        return output

    def sample(self, *args: Any, return_logprobs: bool = False, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sampled, processed_logits = super().sample(*args, return_logprobs=return_logprobs, **kwargs)  # type: ignore[misc]
        if return_logprobs and not self.reports_raw_entropies:
            self._processed_entropies = softmax_rows(processed_logits)[1]
        return sampled, processed_logits


class EntropySamplerV2(EntropyColumnV2, SamplerV2):
    """Sampler of the V2 model runner (CUDA), with entropies."""


def missing_names(sampler: Any) -> list[str]:
    """Private names that the entropy sampler builds on and this sampler lacks; empty for vLLM 0.32.0."""
    names = ["logprobs_mode", "sample"]
    if isinstance(sampler, Sampler):
        names += ["forward", "gather_logprobs", "topk_topp_sampler", "compute_logprobs"]
    return [name for name in names if not hasattr(sampler, name)]


def add_entropies(sampler: Any, *, raw: bool) -> str:
    """Make a live sampler report entropies.

    Args:
        raw: of the softmax at temperature 1; otherwise of the distribution sampled from.
    Returns:
        The model runner it belongs to: "v1" or "v2".
    Raises:
        TypeError: a sampler of another kind (for example vLLM's watermarking one).
    """
    if type(sampler) is Sampler:
        sampler.__class__ = EntropySampler
        sampler._raw_entropies = None
        sampler.logprobs_mode = sampler.topk_topp_sampler.logprobs_mode = "processed_logits"
        runner = "v1"
    elif type(sampler) is SamplerV2:
        sampler.__class__ = EntropySamplerV2
        sampler._processed_entropies = None
        runner = "v2"
    else:
        raise TypeError(f"the sampler must be vLLM's own, found {type(sampler).__module__}.{type(sampler).__name__}")
    sampler.reports_raw_entropies = raw
    return runner
