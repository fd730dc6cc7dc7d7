"""Rollouts from transformers, in process: for tests, and for machines without vLLM.

Deterministic bit for bit with one thread. Model work runs in threads, one step at a time, so that the event loop stays
live and weights can change between any two tokens.
"""

import asyncio
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from rollout.adapter import StartingWeights, whole_weights
from rollout.bucket_stream import BucketReceiver, check_newer
from rollout.engine import NO_VERSION, Engine, EngineInfo, EngineMemory
from rollout.engines import EngineSettings
from rollout.hf_sampling import DecodeSession
from rollout.model_files import end_token_ids
from rollout.process_group_receiver import ProcessGroupReceiver
from rollout.proof import ProofResult, prove
from rollout.request_checks import EngineLimits
from rollout.request_gate import Owner, RequestGate
from rollout.tokenizer import load_tokenizer
from rollout.weight_checks import check_layout, check_manifest
from rollout.weight_staging import StagedWeights, receive_all
from shaping.checks import IntArray
from shaping.errors import DataError, EngineRefused, RunFailed
from shaping.records import Rollout, Sampling
from shaping.training import WeightChannel, WeightLayout, WeightManifest

NUM_PROOF_TOKENS = 8
PROOF_PROMPT_TOKENS = 6
NO_HINT = np.empty(0, dtype=np.int32)


def build(settings: EngineSettings) -> Engine:
    return HfEngine(settings)


class HfEngine:
    """The Engine behind transformers, on CPU."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._policy_version = settings.policy_version
        self._model: Any = None
        self._tokenizer: Any = None
        self._end_ids: frozenset[int] = frozenset()
        self._limits: EngineLimits | None = None
        self._sessions: set[DecodeSession] = set()
        self._model_lock = asyncio.Lock()
        self._gate = RequestGate()
        self._receiver: BucketReceiver | None = None
        self._staged: StagedWeights | None = None
        self._transfer = object()
        self._failure = ""
        self._starting: StartingWeights | None = None

    @property
    def policy_version(self) -> int:
        return self._policy_version

    async def start(self) -> EngineInfo:
        """Load the model and prove log-probs and entropies against a forward pass without a cache.

        Raises:
            EngineRefused: the proof failed.
            DataError: no model at the path.
        """
        await asyncio.to_thread(self._load)
        limits = self._limits
        assert limits is not None
        try:
            proof = await self._prove()
        except BaseException:
            await self.close()
            raise
        return EngineInfo(
            vocab_size=limits.vocab_size,
            max_model_tokens=limits.max_model_tokens,
            max_logprob_error=proof.max_logprob_error,
            max_entropy_error=proof.max_entropy_error,
            num_workers=1,
            description=f"transformers {transformers.__version__}, in process, {self._settings.config.dtype}",
            can_release=tuple(EngineMemory),
        )

    async def generate(
        self, *, prompt_ids: IntArray, hint_ids: IntArray, num_rollouts: int, sampling: Sampling, seed: int
    ) -> tuple[Rollout, ...]:
        """Sample continuations of prompt + hint.

        Raises:
            RecordError: a request this engine cannot take.
            RunFailed: the engine is not running, or has no weights.
            RolloutAborted: it was given up.
        """
        if self._policy_version == NO_VERSION:
            raise RunFailed(role="rollout", cause="the hf engine gave its weights back, and none have come since")
        return await self._decode(
            prompt_ids=prompt_ids,
            hint_ids=hint_ids,
            num_rollouts=num_rollouts,
            sampling=sampling,
            seed=seed,
            end_ids=self._end_ids,
        )

    async def pause(self) -> None:
        await self._hold(Owner.WEIGHTS)

    async def resume(self) -> None:
        self._gate.let_go(Owner.WEIGHTS)

    async def freeze(self) -> None:
        await self._hold(Owner.USER)

    async def thaw(self) -> None:
        self._gate.let_go(Owner.USER)

    async def abort(self) -> None:
        self._gate.abort()

    async def release(self, memory: EngineMemory) -> None:
        """The KV cache is each request's own and gone with it; weights are dropped with the whole module.

        Raises:
            EngineRefused: a request is under way.
        """
        if self._gate.num_requests:
            raise EngineRefused(
                f"memory is given back with no request under way, found {self._gate.num_requests} (hf engine)"
            )
        await self._hold(Owner.MEMORY)
        if memory is EngineMemory.ROLLOUT_WEIGHTS:
            self._model, self._staged, self._policy_version = None, None, NO_VERSION

    async def wake(self, memory: EngineMemory) -> None:
        """Weights: a module as at start, which must be given a version before it serves."""
        if memory is EngineMemory.KV_CACHE:
            self._gate.let_go(Owner.MEMORY)
        elif self._model is None:
            await asyncio.to_thread(self._load)

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join a weight channel, in memory or a gloo process group; an earlier one is left.

        Raises:
            EngineRefused: another backend.
            ChannelBroken: peers did not come in time.
        """
        self._leave_channel()
        if channel.backend == "memory":
            if self._settings.memory_channel is None:
                raise EngineRefused("weights through memory need the run's memory channel, found none (weight channel)")
            self._receiver = self._settings.memory_channel.receiver(channel.port, channel.first_rank)
        elif channel.backend == "gloo":
            self._receiver = await asyncio.to_thread(
                ProcessGroupReceiver,
                channel,
                worker_index=0,
                timeout_s=self._settings.weight_timeout_s,
                device=torch.device("cpu"),
            )
        else:
            raise EngineRefused(f"the hf engine takes weights over memory or gloo, got {channel.backend!r}")

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        """Receive every bucket beside the live weights.

        Raises:
            EngineRefused: not the served model's parameters, no channel, another bucket than must come next, or a
                version that is not newer.
            ChannelBroken: a bucket did not arrive.
        """
        self._staged = None
        transfer = self._transfer = object()
        check_newer(policy_version, self._policy_version)
        if self._receiver is None:
            raise EngineRefused("weights must be connected before they are staged (hf engine)")
        shapes = {name: tuple(each.shape) for name, each in self._loaded().named_parameters()}
        check_layout(layout, shapes)
        if layout.adapter is not None and self._starting is None:
            self._starting = StartingWeights(self._settings.model_path, shapes)
        staged = await asyncio.to_thread(
            receive_all,
            self._receiver,
            layout,
            policy_version=policy_version,
            timeout_s=self._settings.weight_timeout_s,
        )
        if self._transfer is transfer:
            self._staged = staged

    async def verify_weights(self, manifest: WeightManifest) -> None:
        """Compare what is staged with what was sent.

        Raises:
            EngineRefused: nothing staged, a checksum differs, or the version is not newer; the old version goes on.
        """
        staged = self._staged
        try:
            check_manifest(
                manifest,
                layout=None if staged is None else staged.layout,
                checksums=() if staged is None else (staged.checksums,),
                policy_version=self._policy_version,
            )
        except EngineRefused:
            self._staged = None
            raise

    async def commit_weights(self, manifest: WeightManifest) -> None:
        """Serve the staged weights; requests under way go on with their KV cache recomputed.

        Raises:
            EngineRefused: nothing staged, a checksum differs, or the version is not newer; the old version goes on.
            RunFailed: loading verified weights failed; this engine serves nothing any more.
        """
        await self.verify_weights(manifest)
        staged, self._staged = self._staged, None
        assert staged is not None
        async with self._model_lock:
            try:
                await asyncio.to_thread(_copy_weights, self._loaded(), staged, self._starting)
            except BaseException as error:
                # Some parameters may be new and some old: nothing of it may be served.
                self._failure = f"loading version {manifest.policy_version} failed: {type(error).__name__}: {error}"
                await self.close()
                raise RunFailed(role="rollout", cause=self._failure) from error
            for session in self._sessions:
                session.forget_cache()
            self._policy_version = manifest.policy_version

    async def discard_staged_weights(self) -> None:
        """Drop what is staged, and what a transfer under way will bring."""
        self._staged = None
        self._transfer = object()

    async def close(self) -> None:
        self._leave_channel()
        self._model = None
        # Requests that are held would otherwise wait for ever; they end at their next step.
        self._gate.open_for_good()

    async def _hold(self, owner: Owner) -> None:
        """Until no step is under way."""
        self._gate.hold(owner)
        async with self._model_lock:
            pass

    def _leave_channel(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    def _load(self) -> None:
        settings = self._settings
        try:
            model = AutoModelForCausalLM.from_pretrained(
                settings.model_path, dtype=getattr(torch, settings.config.dtype)
            )
        except (OSError, ValueError) as error:
            raise DataError(f"model.path must hold a model: {str(error).splitlines()[0]}") from error
        self._model = model.eval()
        self._tokenizer = load_tokenizer(settings.model_path)
        self._end_ids = end_token_ids(self._tokenizer, model.generation_config)
        self._limits = EngineLimits(
            vocab_size=model.config.vocab_size,
            max_model_tokens=min(settings.max_model_tokens, model.config.max_position_embeddings),
            entropy_source=settings.sampling.entropy_source,
        )

    def _loaded(self) -> Any:
        if self._model is None:
            raise RunFailed(role="rollout", cause=self._failure or "the hf engine is not running")
        return self._model

    async def _decode(
        self,
        *,
        prompt_ids: IntArray,
        hint_ids: IntArray,
        num_rollouts: int,
        sampling: Sampling,
        seed: int,
        end_ids: frozenset[int],
    ) -> tuple[Rollout, ...]:
        model = self._loaded()
        assert self._limits is not None
        budget = self._limits.response_budget(
            prompt_ids=prompt_ids, hint_ids=hint_ids, num_rollouts=num_rollouts, sampling=sampling
        )
        session = DecodeSession(
            model=model,
            tokenizer=self._tokenizer,
            prefix_ids=np.concatenate([prompt_ids, hint_ids]),
            hint_ids=hint_ids,
            num_rollouts=num_rollouts,
            budget=budget,
            sampling=sampling,
            seed=seed,
            end_ids=end_ids,
        )
        self._sessions.add(session)
        try:
            with self._gate.request() as request:
                while not session.is_finished:
                    await request.until_open()
                    async with self._model_lock:
                        # Held while it waited for the lock: nothing may be sampled any more.
                        if self._gate.is_open:
                            self._loaded()
                            await asyncio.to_thread(session.step, self._policy_version)
        finally:
            self._sessions.discard(session)
        return session.rollouts()

    async def _prove(self) -> ProofResult:
        limits, sampling = self._limits, self._settings.sampling
        assert limits is not None
        prompt = np.arange(1, 1 + PROOF_PROMPT_TOKENS, dtype=np.int32) % limits.vocab_size
        rollout = (
            await self._decode(
                prompt_ids=prompt,
                hint_ids=NO_HINT,
                num_rollouts=1,
                sampling=_for_proof(sampling),
                seed=self._settings.seed,
                end_ids=frozenset(),
            )
        )[0]
        table = await asyncio.to_thread(_full_logprobs, self._loaded(), prompt, rollout.response_ids)
        return prove(
            raw_logprobs=table,
            expected_ids=rollout.response_ids,
            response_ids=rollout.response_ids,
            behavior_logprobs=rollout.behavior_logprobs,
            entropies=rollout.entropies,
            sampling=sampling,
            max_error=self._settings.config.max_proof_error,
        )


def _for_proof(sampling: Sampling) -> Sampling:
    return Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_response_tokens=NUM_PROOF_TOKENS,
        entropy_source=sampling.entropy_source,
    )


@torch.inference_mode()
def _full_logprobs(model: Any, prompt_ids: IntArray, response_ids: IntArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[T, V] raw log-probs of each response token's position, by one forward pass without a cache."""
    ids = torch.from_numpy(np.concatenate([prompt_ids, response_ids]).astype(np.int64))[None]
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1]
    table: np.ndarray[Any, np.dtype[np.float64]] = logits.double().log_softmax(-1).numpy()
    return table


@torch.no_grad()
def _copy_weights(model: Any, staged: StagedWeights, starting: StartingWeights | None) -> None:
    parameters = dict(model.named_parameters())
    for name, value in whole_weights(staged, starting):
        parameters[name].copy_(value)
