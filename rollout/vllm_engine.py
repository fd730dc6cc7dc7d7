"""Rollouts from vLLM: one AsyncLLM, token ids in, rollouts out, weights staged beside the live ones, then committed.

One path for CPU and GPU. The pinned version's private names are used in `vllm_extension` and below it; this module
refuses another version, and proves at start that what the sampler reports is right.
"""

import asyncio
import dataclasses
import itertools
from typing import Any

import numpy as np
import torch
import vllm
from numpy.typing import NDArray
from vllm import SamplingParams
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from rollout.engine import Engine, EngineInfo
from rollout.engines import EngineSettings
from rollout.model_files import load_tokenizer, parameter_shapes
from rollout.proof import ProofResult, prove
from rollout.request_checks import EngineLimits, stream_seed
from rollout.weight_checks import check_layout, check_manifest, layout_to_plain
from shaping.checks import IntArray
from shaping.errors import EngineRefused, RecipeError, RunFailed
from shaping.records import EntropySource, Rollout, Sampling, StopReason, VersionSpan
from shaping.training import WeightChannel, WeightLayout, WeightManifest

PINNED_VERSION = "0.32.0"
EXTENSION = "rollout.vllm_extension.RolloutExtension"
WEIGHT_BACKEND = "lessrl"
NUM_PROOF_TOKENS = 8
PROOF_PROMPT_TOKENS = 6
STAGING_POLL_S = (0.002, 0.05)
NO_HINT = np.empty(0, dtype=np.int32)


def build(settings: EngineSettings) -> Engine:
    return VllmEngine(settings)


class VllmEngine:
    """The Engine behind vLLM. Made in the process that will call it, whose environment is `worker_environment`."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._policy_version = settings.policy_version
        self._llm: AsyncLLM | None = None
        self._tokenizer: Any = None
        self._limits: EngineLimits | None = None
        self._request_ids = itertools.count()
        self._parameter_shapes: dict[str, tuple[int, ...]] = {}
        self._staged_layout: WeightLayout | None = None
        self._staged_checksums: tuple[tuple[str, ...], ...] = ()
        self._is_paused = False
        self._failure = ""

    @property
    def policy_version(self) -> int:
        return self._policy_version

    async def start(self) -> EngineInfo:
        """Load the model and prove log-probs and entropies.

        Raises:
            EngineRefused: another vLLM, a sampler without the names we need, or a proof that failed.
            RecipeError: no KV cache size on CPU.
        """
        if vllm.__version__ != PINNED_VERSION:
            raise EngineRefused(
                f"vLLM must be {PINNED_VERSION}, whose sampler this code knows; found {vllm.__version__} (vLLM "
                "engine): install the pinned requirements"
            )
        arguments = _engine_arguments(self._settings)
        self._tokenizer = await asyncio.to_thread(load_tokenizer, self._settings.model_path)
        llm: AsyncLLM = await asyncio.to_thread(AsyncLLM.from_engine_args, arguments)
        self._llm = llm
        try:
            self._limits = EngineLimits(
                vocab_size=llm.model_config.get_vocab_size(),
                max_model_tokens=llm.model_config.max_model_len,
                entropy_source=self._settings.sampling.entropy_source,
            )
            await llm.update_weight_version(str(self._policy_version))
            proof, runner = await self._prove()
        except BaseException:
            await self.close()
            raise
        return EngineInfo(
            vocab_size=self._limits.vocab_size,
            max_model_tokens=self._limits.max_model_tokens,
            max_logprob_error=proof.max_logprob_error,
            max_entropy_error=proof.max_entropy_error,
            num_workers=self._settings.config.tensor_parallel_size,
            description=f"vLLM {vllm.__version__}, {runner} model runner, {self._settings.config.dtype}",
        )

    async def generate(
        self, *, prompt_ids: IntArray, hint_ids: IntArray, num_rollouts: int, sampling: Sampling, seed: int
    ) -> tuple[Rollout, ...]:
        """Sample continuations of prompt + hint; they share its prefill.

        Raises:
            RecordError: a request this engine cannot take.
            RunFailed: vLLM died or gave the request up.
        """
        budget = self._started_limits().response_budget(
            prompt_ids=prompt_ids, hint_ids=hint_ids, num_rollouts=num_rollouts, sampling=sampling
        )
        parameters = _sampling_parameters(sampling, num_rollouts=num_rollouts, budget=budget, seed=seed)
        output = await self._finished([*prompt_ids.tolist(), *hint_ids.tolist()], parameters)
        return tuple(self._to_rollout(each, hint_ids, sampling) for each in output.outputs)

    async def pause(self) -> None:
        self._is_paused = True
        await self._started().pause_generation(mode="keep", clear_cache=False)

    async def resume(self) -> None:
        self._is_paused = False
        await self._started().resume_generation()

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join the learner's weight channel, every worker process with a rank of its own.

        Raises:
            EngineRefused: a backend that vLLM's processes cannot reach, or peers that did not come in time.
        """
        llm = self._started()
        if channel.backend not in ("gloo", "nccl"):
            raise EngineRefused(f"vLLM takes weights over gloo or nccl, got {channel.backend!r} (weight channel)")
        self._parameter_shapes = await asyncio.to_thread(parameter_shapes, self._settings.model_path)
        info = {**dataclasses.asdict(channel), "timeout_s": self._settings.weight_timeout_s}
        try:
            await llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=info))
        except Exception as error:  # vLLM's process border: the worker's exception arrives without its type
            raise EngineRefused(f"no weight channel at {channel.address}:{channel.port}: {_one_line(error)}") from error

    async def stage_weights(self, layout: WeightLayout) -> None:
        """Receive every bucket in the workers while generation goes on.

        Raises:
            EngineRefused: not the served model's parameters, no channel, or a transfer that failed or timed out.
        """
        llm = self._started()
        await self.discard_staged_weights()
        check_layout(layout, self._parameter_shapes)
        refusals = await llm.collective_rpc("lessrl_stage_weights", kwargs={"buckets": layout_to_plain(layout)})
        if any(refusals):
            raise EngineRefused(f"weights were not staged: {next(filter(None, refusals))} (vLLM worker)")
        reports = await self._staging_reports(llm)
        failures = [report["failure"] for report in reports if report["failure"]]
        if failures:
            raise EngineRefused(f"weights were not received: {failures[0]} (vLLM worker)")
        self._staged_layout = layout
        self._staged_checksums = tuple(tuple(report["checksums"]) for report in reports)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        """Serve the staged weights. Requests under way go on at their token, with their KV cache recomputed.

        Raises:
            EngineRefused: nothing staged, a checksum differs, or the version is not newer; the old version goes on.
            RunFailed: vLLM failed while it loaded verified weights; this engine serves nothing any more.
        """
        llm = self._started()
        try:
            check_manifest(
                manifest,
                layout=self._staged_layout,
                checksums=self._staged_checksums,
                policy_version=self._policy_version,
            )
        except EngineRefused:
            await self.discard_staged_weights()
            raise
        self._staged_layout, self._staged_checksums = None, ()
        try:
            await llm.pause_generation(mode="keep", clear_cache=True)
        except BaseException:
            await self._resume_unless_paused(llm)
            raise
        try:
            await llm.start_weight_update()
            await llm.update_weights(WeightTransferUpdateRequest())
            await llm.finish_weight_update(weight_version=str(manifest.policy_version))
        except BaseException as error:
            # Some layers may hold new weights and some old: nothing of it may be served.
            self._failure = f"loading version {manifest.policy_version} failed: {_one_line(error)}"
            await self.close()
            raise RunFailed(role="rollout", cause=self._failure) from error
        self._policy_version = manifest.policy_version
        await self._resume_unless_paused(llm)

    async def discard_staged_weights(self) -> None:
        self._staged_layout, self._staged_checksums = None, ()
        await self._started().collective_rpc("lessrl_discard_staged_weights")

    async def close(self) -> None:
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)

    async def _resume_unless_paused(self, llm: AsyncLLM) -> None:
        """End our own pause; a pause that the caller asked for stays."""
        if not self._is_paused:
            await llm.resume_generation()

    def _started(self) -> AsyncLLM:
        if self._llm is None:
            raise RunFailed(role="rollout", cause=self._failure or "the vLLM engine is not running")
        return self._llm

    def _started_limits(self) -> EngineLimits:
        self._started()
        if self._limits is None:
            raise RunFailed(role="rollout", cause="the vLLM engine has not started")
        return self._limits

    async def _finished(self, token_ids: list[int], parameters: SamplingParams) -> RequestOutput:
        """The final output of one request."""
        llm = self._started()
        final = None
        try:
            async for output in llm.generate(
                {"prompt_token_ids": token_ids}, parameters, request_id=f"r{next(self._request_ids)}"
            ):
                final = output
        except (EngineDeadError, EngineGenerateError, ValueError) as error:
            cause = self._failure or f"vLLM failed a request: {_one_line(error.__cause__ or error)}"
            raise RunFailed(role="rollout", cause=cause) from error
        if final is None or not final.finished:
            raise RunFailed(role="rollout", cause="vLLM ended a request without an output")
        return final

    def _to_rollout(self, output: CompletionOutput, hint_ids: IntArray, sampling: Sampling) -> Rollout:
        ids = np.asarray(output.token_ids, dtype=np.int32)
        columns = np.asarray(output.logprobs.logprobs, dtype=np.float32).reshape(len(ids), 2)
        return Rollout(
            hint_ids=hint_ids,
            response_ids=ids,
            response_text=self._tokenizer.decode(output.token_ids, skip_special_tokens=True),
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

    async def _staging_reports(self, llm: AsyncLLM) -> list[dict[str, Any]]:
        """Ask the workers until each has all buckets or failed; their process groups bound the wait."""
        delay, longest = STAGING_POLL_S
        while True:
            reports: list[dict[str, Any]] = await llm.collective_rpc("lessrl_staging")
            if not any(report["is_running"] for report in reports):
                return reports
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    async def _prove(self) -> tuple[ProofResult, str]:
        """Sample a few tokens with the stock sampler's full distribution, then again with ours, and compare.

        Both runs see the same logits, so the proof is as sharp in bfloat16 as in float32.
        """
        llm, limits, sampling = self._started(), self._started_limits(), self._settings.sampling
        raw = sampling.entropy_source is EntropySource.RAW
        prompt = [1 + index % (limits.vocab_size - 1) for index in range(PROOF_PROMPT_TOKENS)]
        budget = min(NUM_PROOF_TOKENS, limits.max_model_tokens - len(prompt))
        parameters = _sampling_parameters(sampling, num_rollouts=1, budget=budget, seed=self._settings.seed)
        parameters.ignore_eos, parameters.stop = True, []
        stock_parameters = parameters.clone()
        stock_parameters.logprobs = -1
        await self._ask_workers("lessrl_use_stock_logprobs", raw=True)
        stock = (await self._finished(prompt, stock_parameters)).outputs[0]
        await self._ask_workers("lessrl_use_stock_logprobs", raw=False)
        answers = await llm.collective_rpc("lessrl_add_entropies", kwargs={"raw": raw})
        refusals = [refusal for _, refusal in answers if refusal]
        if refusals:
            raise EngineRefused(f"{refusals[0]} (vLLM {vllm.__version__})")
        await llm.reset_prefix_cache()
        rollout = self._to_rollout((await self._finished(prompt, parameters)).outputs[0], NO_HINT, sampling)
        result = await asyncio.to_thread(
            prove,
            raw_logprobs=_full_logprobs(stock, limits.vocab_size),
            expected_ids=np.asarray(stock.token_ids, dtype=np.int32),
            response_ids=rollout.response_ids,
            behavior_logprobs=rollout.behavior_logprobs,
            entropies=rollout.entropies,
            sampling=sampling,
            max_error=self._settings.config.max_proof_error,
        )
        await llm.reset_prefix_cache()
        return result, answers[0][0]

    async def _ask_workers(self, method: str, **kwargs: Any) -> None:
        refusals = await self._started().collective_rpc(method, kwargs=kwargs)
        if any(refusals):
            raise EngineRefused(f"{next(filter(None, refusals))} (vLLM {vllm.__version__})")


def _engine_arguments(settings: EngineSettings) -> AsyncEngineArgs:
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
    return AsyncEngineArgs(
        model=settings.model_path,
        dtype=config.dtype,
        seed=settings.seed,
        max_model_len=settings.max_model_tokens,
        max_num_seqs=config.max_num_seqs,
        tensor_parallel_size=config.tensor_parallel_size,
        enforce_eager=config.enforce_eager,
        logprobs_mode="processed_logprobs",
        max_logprobs=-1,
        worker_extension_cls=EXTENSION,
        weight_transfer_config={"backend": WEIGHT_BACKEND},
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **memory,
    )


def _sampling_parameters(sampling: Sampling, *, num_rollouts: int, budget: int, seed: int) -> SamplingParams:
    return SamplingParams(
        n=num_rollouts,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=budget,
        seed=stream_seed(seed),
        stop=list(sampling.stop),
        detokenize=bool(sampling.stop),
        logprobs=1,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _full_logprobs(output: CompletionOutput, vocab_size: int) -> NDArray[np.float64]:
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


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
