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
from vllm import SamplingParams
from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest
from vllm.inputs.engine import tokens_input
from vllm.outputs import RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from rollout.bucket_stream import check_newer
from rollout.engine import NO_VERSION, Engine, EngineInfo, EngineMemory
from rollout.engines import EngineSettings
from rollout.model_files import parameter_shapes
from rollout.proof import ProofResult, prove
from rollout.request_checks import EngineLimits
from rollout.request_gate import Owner
from rollout.tokenizer import load_tokenizer
from rollout.vllm_models import import_model_classes
from rollout.vllm_scheduling import Scheduling, of_vllm, releasable
from rollout.vllm_stats import stat_loggers
from rollout.vllm_terms import engine_arguments, full_logprobs, one_line, sampling_parameters, to_rollout
from rollout.weight_checks import check_layout, check_manifest, layout_to_plain
from shaping.checks import IntArray
from shaping.errors import ChannelBroken, EngineRefused, RolloutAborted, RunFailed
from shaping.records import EntropySource, Rollout, Sampling
from shaping.training import WeightChannel, WeightLayout, WeightManifest

PINNED_VERSION = "0.32.0"
NUM_PROOF_TOKENS = 8
PROOF_PROMPT_TOKENS = 6
TRANSFER_POLL_S = (0.002, 0.05)
SHUTDOWN_GRACE_S = 2.0
"""vLLM's processes take longer to tidy up than there is to tidy; after this they are killed."""

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
        self._requests: set[asyncio.Future[RequestOutput | None]] = set()
        self._aborted: set[asyncio.Future[RequestOutput | None]] = set()
        self._parameter_shapes: dict[str, tuple[int, ...]] = {}
        self._transfer = object()
        self._staged_layout: WeightLayout | None = None
        self._staged_checksums: tuple[tuple[str, ...], ...] = ()
        self._scheduling = Scheduling()
        self._failure = ""

    @property
    def policy_version(self) -> int:
        return self._policy_version

    async def start(self) -> EngineInfo:
        """Load the model and prove log-probs and entropies.

        Raises:
            EngineRefused: another vLLM, a sampler without the names we need, or a proof that failed.
            RecipeError: no KV cache size on CPU.
            RunFailed: vLLM itself did not start.
        """
        if vllm.__version__ != PINNED_VERSION:
            raise EngineRefused(
                f"vLLM must be {PINNED_VERSION}, whose sampler this code knows; found {vllm.__version__} (vLLM "
                "engine): install the pinned requirements"
            )
        arguments = engine_arguments(self._settings)
        self._tokenizer = await asyncio.to_thread(load_tokenizer, self._settings.model_path)
        try:
            if not torch.cuda.is_available():
                await asyncio.to_thread(import_model_classes, self._settings.model_path)
            loggers = stat_loggers()
            llm: AsyncLLM = await asyncio.to_thread(AsyncLLM.from_engine_args, arguments, stat_loggers=loggers)
        except Exception as error:  # vLLM's border: its processes fail in ways of their own
            raise RunFailed(role="rollout", cause=f"vLLM did not start: {one_line(error)}") from error
        self._llm = llm
        try:
            self._limits = EngineLimits(
                vocab_size=llm.model_config.get_vocab_size(),
                max_model_tokens=llm.model_config.max_model_len,
                entropy_source=self._settings.sampling.entropy_source,
            )
            await of_vllm(llm.update_weight_version(str(self._policy_version)))
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
            can_release=releasable(),
        )

    async def generate(
        self, *, prompt_ids: IntArray, hint_ids: IntArray, num_rollouts: int, sampling: Sampling, seed: int
    ) -> tuple[Rollout, ...]:
        """Sample continuations of prompt + hint; they share its prefill.

        Raises:
            RecordError: a request this engine cannot take.
            RunFailed: vLLM died or gave the request up, or it has no weights.
            RolloutAborted: it was given up.
        """
        if self._policy_version == NO_VERSION:
            raise RunFailed(role="rollout", cause="the vLLM engine gave its weights back, and none have come since")
        budget = self._started_limits().response_budget(
            prompt_ids=prompt_ids, hint_ids=hint_ids, num_rollouts=num_rollouts, sampling=sampling
        )
        parameters = sampling_parameters(sampling, num_rollouts=num_rollouts, budget=budget, seed=seed)
        output = await self._finished([*prompt_ids.tolist(), *hint_ids.tolist()], parameters)
        return tuple(
            to_rollout(each, hint_ids=hint_ids, sampling=sampling, tokenizer=self._tokenizer) for each in output.outputs
        )

    async def pause(self) -> None:
        await self._scheduling.hold(self._started(), Owner.WEIGHTS)

    async def resume(self) -> None:
        await self._scheduling.let_go(self._started(), Owner.WEIGHTS)

    async def freeze(self) -> None:
        await self._scheduling.hold(self._started(), Owner.USER)

    async def thaw(self) -> None:
        await self._scheduling.let_go(self._started(), Owner.USER)

    async def abort(self) -> None:
        """Returns once vLLM knows it: what is frozen does not go on afterwards."""
        self._started()
        given_up = tuple(self._requests)
        self._aborted.update(given_up)
        for each in given_up:
            each.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)

    async def release(self, memory: EngineMemory) -> None:
        """Through vLLM's sleep mode, which needs a GPU.

        Raises:
            EngineRefused: no GPU, or a request is under way.
        """
        llm = self._started()
        if self._requests:
            raise EngineRefused(f"memory is given back with no request under way, found {len(self._requests)} (vLLM)")
        await self.discard_staged_weights()
        await self._scheduling.release(llm, memory)
        if memory is EngineMemory.ROLLOUT_WEIGHTS:
            self._policy_version = NO_VERSION

    async def wake(self, memory: EngineMemory) -> None:
        await self._scheduling.wake(self._started(), memory)

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join a weight channel, every worker process with a rank of its own; an earlier one is left.

        Raises:
            EngineRefused: a backend that vLLM's processes cannot reach.
            ChannelBroken: peers did not come in time.
        """
        self._started()
        if channel.backend not in ("gloo", "nccl"):
            raise EngineRefused(f"vLLM takes weights over gloo or nccl, got {channel.backend!r} (weight channel)")
        self._parameter_shapes = await asyncio.to_thread(parameter_shapes, self._settings.model_path)
        timeout_s = self._settings.weight_timeout_s
        await self._workers("lessrl_connect_weights", channel=dataclasses.asdict(channel), timeout_s=timeout_s)
        await self._finished_transfer()

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        """Receive every bucket in the workers while generation goes on.

        Raises:
            EngineRefused: not the served model's parameters, no channel, another bucket than must come next, or a
                version that is not newer.
            ChannelBroken: a bucket did not arrive.
        """
        await self.discard_staged_weights()
        transfer = self._transfer
        check_newer(policy_version, self._policy_version)
        check_layout(layout, self._parameter_shapes)
        refusals = await self._workers(
            "lessrl_stage_weights",
            layout=layout_to_plain(layout),
            policy_version=policy_version,
            timeout_s=self._settings.weight_timeout_s,
        )
        if any(refusals):
            raise EngineRefused(f"weights were not staged: {next(filter(None, refusals))} (vLLM worker)")
        reports = await self._finished_transfer()
        if self._transfer is transfer:
            self._staged_layout = layout
            self._staged_checksums = tuple(tuple(report["checksums"]) for report in reports)

    async def verify_weights(self, manifest: WeightManifest) -> None:
        """Compare what is staged in every worker with what was sent.

        Raises:
            EngineRefused: nothing staged, a checksum differs, or the version is not newer; the old version goes on.
        """
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

    async def commit_weights(self, manifest: WeightManifest) -> None:
        """Serve the staged weights. Requests under way go on at their token, with their KV cache recomputed.

        Raises:
            EngineRefused: nothing staged, a checksum differs, or the version is not newer; the old version goes on.
            RunFailed: vLLM failed while it loaded verified weights; this engine serves nothing any more.
        """
        llm = self._started()
        await self.verify_weights(manifest)
        self._staged_layout, self._staged_checksums = None, ()
        await self._scheduling.begin_load(llm)
        try:
            await llm.start_weight_update()
            await llm.update_weights(WeightTransferUpdateRequest())
            await llm.finish_weight_update(weight_version=str(manifest.policy_version))
        except BaseException as error:
            # Some layers may hold new weights and some old: nothing of it may be served.
            self._failure = f"loading version {manifest.policy_version} failed: {one_line(error)}"
            await self.close()
            raise RunFailed(role="rollout", cause=self._failure) from error
        self._policy_version = manifest.policy_version
        await self._scheduling.end_load(llm)

    async def discard_staged_weights(self) -> None:
        """Drop what is staged, and what a transfer under way will bring."""
        self._transfer = object()
        self._staged_layout, self._staged_checksums = None, ()
        await self._workers("lessrl_discard_staged_weights")

    async def close(self) -> None:
        """End the engine's processes; requests under way fail."""
        llm, self._llm = self._llm, None
        requests = tuple(self._requests)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        if llm is not None:
            if llm.output_handler is not None:
                # Otherwise it logs the end of the engine as a failure, with a traceback.
                llm.output_handler.cancel()
            await asyncio.to_thread(llm.shutdown, timeout=SHUTDOWN_GRACE_S)

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
        """The final output of one request. Ends with an error, and never hangs, when the engine dies or is closed."""
        work = asyncio.ensure_future(self._last_output(token_ids, parameters))
        self._requests.add(work)
        try:
            final = await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if work in self._aborted and not (task is not None and task.cancelling()):
                raise RolloutAborted("a request for rollouts was given up: the run is being stopped") from None
            if self._llm is not None or (task is not None and task.cancelling()):
                raise
            raise RunFailed(role="rollout", cause=self._failure or "the vLLM engine was closed") from None
        except (EngineDeadError, EngineGenerateError, ValueError) as error:
            raise RunFailed(
                role="rollout", cause=f"vLLM failed a request: {one_line(error.__cause__ or error)}"
            ) from error
        finally:
            self._requests.discard(work)
            self._aborted.discard(work)
        if final is None or not final.finished:
            raise RunFailed(role="rollout", cause="vLLM ended a request without an output")
        return final

    async def _last_output(self, token_ids: list[int], parameters: SamplingParams) -> RequestOutput | None:
        final = None
        request_id = f"r{next(self._request_ids)}"
        async for output in self._started().generate(tokens_input(token_ids), parameters, request_id):
            final = output
        return final

    async def _workers(self, method: str, **arguments: Any) -> list[Any]:
        """Ask every worker process; their answers by tensor-parallel rank."""
        answers: list[Any] = await of_vllm(self._started().collective_rpc(method, kwargs=arguments))
        return answers

    async def _finished_transfer(self) -> list[dict[str, Any]]:
        """Ask the workers until each has joined or has all buckets; their time-outs bound the wait.

        Raises:
            EngineRefused: a worker says that something is wrong with what came.
            ChannelBroken: all that is wrong is that peers did not come, or left.
        """
        delay, longest = TRANSFER_POLL_S
        while True:
            reports: list[dict[str, Any]] = await self._workers("lessrl_weights_progress")
            if not any(report["is_running"] for report in reports):
                failed = sorted((each for each in reports if each["failure"]), key=lambda each: bool(each["is_broken"]))
                if failed:
                    kind = ChannelBroken if failed[0]["is_broken"] else EngineRefused
                    raise kind(f"{failed[0]['failure']} (vLLM worker)")
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
        parameters = sampling_parameters(sampling, num_rollouts=1, budget=budget, seed=self._settings.seed)
        parameters.ignore_eos, parameters.stop, parameters.stop_token_ids = True, [], []
        stock_parameters = parameters.clone()
        stock_parameters.logprobs = -1
        _check_refusals(await self._workers("lessrl_use_stock_logprobs", raw=True))
        stock = (await self._finished(prompt, stock_parameters)).outputs[0]
        _check_refusals(await self._workers("lessrl_use_stock_logprobs", raw=False))
        answers = await self._workers("lessrl_add_entropies", raw=raw)
        _check_refusals([refusal for _, refusal in answers])
        await of_vllm(llm.reset_prefix_cache())
        ours = (await self._finished(prompt, parameters)).outputs[0]
        rollout = to_rollout(ours, hint_ids=NO_HINT, sampling=sampling, tokenizer=self._tokenizer)
        result = await asyncio.to_thread(
            prove,
            raw_logprobs=full_logprobs(stock, limits.vocab_size),
            expected_ids=np.asarray(stock.token_ids, dtype=np.int32),
            response_ids=rollout.response_ids,
            behavior_logprobs=rollout.behavior_logprobs,
            entropies=rollout.entropies,
            sampling=sampling,
            max_error=self._settings.config.max_proof_error,
        )
        await of_vllm(llm.reset_prefix_cache())
        return result, answers[0][0]


def _check_refusals(refusals: list[str]) -> None:
    found = next(filter(None, refusals), "")
    if found:
        raise EngineRefused(f"{found} (vLLM {vllm.__version__})")
