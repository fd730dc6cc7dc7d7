"""vLLM's terms and ours: settings and sampling on the way in, rollouts and their stop reasons on the way out."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.outputs import CompletionOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from rollout.engines import EngineSettings
from rollout.request_checks import stream_seed
from shaping.checks import IntArray
from shaping.errors import RecipeError, RunFailed
from shaping.records import Rollout, Sampling, StopReason, VersionSpan

EXTENSION = "rollout.vllm_extension.RolloutExtension"
WEIGHT_BACKEND = "lessrl"
CPU_BATCH_TOKENS = 8192


def engine_arguments(settings: EngineSettings) -> AsyncEngineArgs:
    """How vLLM is started.

    Raises:
        RecipeError: no KV cache size on CPU.
    """
    config = settings.config
    memory: dict[str, Any] = {}
    if config.kv_cache_bytes:
        memory["kv_cache_memory_bytes"] = config.kv_cache_bytes
    elif torch.cuda.is_available():
        memory["gpu_memory_utilization"] = config.gpu_memory_utilization
    else:
        raise RecipeError(
            "kv_cache_bytes must be > 0 on CPU, where vLLM would otherwise claim most of the machine's memory, got 0 "
            "(rollout.engine.kv_cache_bytes)"
        )
    if not torch.cuda.is_available():
        # vLLM rewinds a request's random generator after a partial prefill, which CPU generators cannot do: the engine
        # would die. Whole prefills need a batch that holds the longest prompt.
        memory["enable_chunked_prefill"] = False
        memory["max_num_batched_tokens"] = max(settings.max_model_tokens, CPU_BATCH_TOKENS)
    return AsyncEngineArgs(
        model=settings.model_path,
        dtype=config.dtype,
        seed=settings.seed,
        max_model_len=settings.max_model_tokens,
        max_num_seqs=config.max_num_seqs,
        tensor_parallel_size=config.tensor_parallel_size,
        # An engine lies in one bundle of a placement group, which vLLM's Ray executor, its choice there, refuses.
        distributed_executor_backend="mp" if config.tensor_parallel_size > 1 else None,
        enforce_eager=config.enforce_eager,
        # What a paused run gives back, it gives back through this; vLLM refuses it without a GPU.
        enable_sleep_mode=can_sleep(),
        logprobs_mode="processed_logprobs",
        max_logprobs=-1,
        worker_extension_cls=EXTENSION,
        weight_transfer_config={"backend": WEIGHT_BACKEND},
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **memory,
    )


def can_sleep() -> bool:
    """Whether vLLM can give memory back here: on a CPU its calls for it do nothing."""
    return torch.cuda.is_available() and bool(current_platform.is_sleep_mode_available())


def sampling_parameters(sampling: Sampling, *, num_rollouts: int, budget: int, seed: int) -> SamplingParams:
    """A request whose log-prob stream carries log-prob and entropy: exactly one extra column, flat."""
    return SamplingParams(
        n=num_rollouts,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=budget,
        seed=stream_seed(seed),
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        detokenize=bool(sampling.stop),
        logprobs=1,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def to_rollout(output: CompletionOutput, *, hint_ids: IntArray, sampling: Sampling, tokenizer: Any) -> Rollout:
    """A finished sequence with its log-prob stream split in log-probs and entropies."""
    ids = np.asarray(output.token_ids, dtype=np.int32)
    columns = np.asarray(output.logprobs.logprobs, dtype=np.float32).reshape(len(ids), 2)
    return Rollout(
        hint_ids=hint_ids,
        response_ids=ids,
        response_text=tokenizer.decode(output.token_ids, skip_special_tokens=True),
        # Rounding may leave either a hair on the wrong side of 0.
        behavior_logprobs=np.minimum(columns[:, 0], 0.0),
        entropies=np.maximum(columns[:, 1], 0.0),
        entropy_source=sampling.entropy_source,
        stop_reason=_stop_reason(output),
        version_spans=tuple(
            VersionSpan(start=span.start, stop=span.end, policy_version=int(span.version))
            for span in output.weight_versions or ()
            if span.end > span.start
        ),
    )


def full_logprobs(output: CompletionOutput, vocab_size: int) -> NDArray[np.float64]:
    """[T, V] of a request with `logprobs=-1`: the sampled token first, then every token by rank."""
    ids = np.asarray(output.logprobs.token_ids).reshape(len(output.token_ids), 1 + vocab_size)[:, 1:]
    values = np.asarray(output.logprobs.logprobs, dtype=np.float64).reshape(len(output.token_ids), 1 + vocab_size)
    table = np.empty(ids.shape, dtype=np.float64)
    np.put_along_axis(table, ids, values[:, 1:], axis=1)
    return table


def _stop_reason(output: CompletionOutput) -> StopReason:
    """vLLM's pair of reasons in our terms.

    Raises:
        RunFailed: the request was aborted or failed inside vLLM.
    """
    if output.finish_reason == "length":
        return StopReason.LENGTH
    if output.finish_reason == "stop":
        return StopReason.STOP_STRING if isinstance(output.stop_reason, str) else StopReason.EOS
    raise RunFailed(role="rollout", cause=f"vLLM ended a request with {output.finish_reason!r}")


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
