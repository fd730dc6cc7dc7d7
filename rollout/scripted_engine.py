"""An engine without a model: validates what it gets and answers from a script. For tests of what stands around it.

Answers depend on (seed, rollout index, policy version) alone; stop tokens cut them, stop strings do not. Weights are
received and checksummed for real; they change nothing but the version. No torch.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from rollout.bucket_stream import check_newer, received_buckets
from rollout.engine import NO_VERSION, Engine, EngineInfo, EngineMemory
from rollout.engines import EngineSettings
from rollout.request_checks import EngineLimits, stream_seed
from rollout.request_gate import Owner, RequestGate
from rollout.weight_checks import check_manifest
from shaping.checks import IntArray
from shaping.errors import DataError, EngineRefused, RunFailed
from shaping.memory_channel import MemoryReceiver
from shaping.records import Rollout, Sampling, StopReason, VersionSpan
from shaping.training import WeightChannel, WeightLayout, WeightManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How the engine answers.

    Args:
        texts: response texts, used in turn over the rollouts of a request; empty: "scripted <index>".
        max_tokens: longest answer; lengths are drawn in [1, max_tokens], LENGTH is reported where the budget cuts one.
        fails_at: ordinals (0-based) of generate calls that fail.
        before_answer: awaited with the call's ordinal before it is answered: a test holds answers back with an event.
    """

    texts: tuple[str, ...] = ()
    max_tokens: int = 16
    fails_at: frozenset[int] = frozenset()
    before_answer: Callable[[int], Coroutine[Any, Any, None]] | None = None


def build(settings: EngineSettings) -> Engine:
    """A scripted engine with the vocabulary size that the model's `config.json` names.

    Raises:
        DataError: no such file.
    """
    path = Path(settings.model_path) / "config.json"
    if not path.is_file():
        raise DataError(f"model.path must hold config.json, whose vocab_size the scripted engine uses ({path})")
    return ScriptedEngine(settings, vocab_size=int(json.loads(path.read_text())["vocab_size"]))


@dataclass(slots=True)
class _Staged:
    layout: WeightLayout
    checksums: tuple[str, ...]


@dataclass(slots=True)
class Calls:
    """What the engine was asked, for tests to read."""

    num_generate: int = 0
    events: list[str] = field(default_factory=list)


class ScriptedEngine:
    """The Engine that stands in for all others."""

    def __init__(self, settings: EngineSettings, *, vocab_size: int, script: Script | None = None) -> None:
        self._settings = settings
        self._script = script or Script()
        self._policy_version = settings.policy_version
        self._limits = EngineLimits(
            vocab_size=vocab_size,
            max_model_tokens=settings.max_model_tokens,
            entropy_source=settings.sampling.entropy_source,
        )
        self._is_open = False
        self._gate = RequestGate()
        self._receiver: MemoryReceiver | None = None
        self._staged: _Staged | None = None
        self.calls = Calls()

    @property
    def policy_version(self) -> int:
        return self._policy_version

    async def start(self) -> EngineInfo:
        self._is_open = True
        self.calls.events.append("start")
        return EngineInfo(
            vocab_size=self._limits.vocab_size,
            max_model_tokens=self._limits.max_model_tokens,
            max_logprob_error=0.0,
            max_entropy_error=0.0,
            num_workers=1,
            description="scripted",
            can_release=tuple(EngineMemory),
        )

    async def generate(
        self, *, prompt_ids: IntArray, hint_ids: IntArray, num_rollouts: int, sampling: Sampling, seed: int
    ) -> tuple[Rollout, ...]:
        """Answer from the script.

        Raises:
            RecordError: a request that a real engine could not take.
            RunFailed: the engine is closed or has no weights, or the script says so.
            RolloutAborted: it was given up.
        """
        self._check_open()
        if self._policy_version == NO_VERSION:
            raise RunFailed(role="rollout", cause="the scripted engine gave its weights back, and none have come since")
        budget = self._limits.response_budget(
            prompt_ids=prompt_ids, hint_ids=hint_ids, num_rollouts=num_rollouts, sampling=sampling
        )
        ordinal = self.calls.num_generate
        self.calls.num_generate += 1
        with self._gate.request() as request:
            if self._script.before_answer is not None:
                await request.unless_aborted(self._script.before_answer(ordinal))
            await request.until_open()
        self._check_open()
        if ordinal in self._script.fails_at:
            raise RunFailed(role="rollout", cause=f"the script fails generate call {ordinal}")
        first = stream_seed(seed)
        return tuple(
            self._rollout(first + index, index, hint_ids=hint_ids, budget=budget, sampling=sampling)
            for index in range(num_rollouts)
        )

    async def pause(self) -> None:
        self.calls.events.append("pause")
        self._gate.hold(Owner.WEIGHTS)

    async def resume(self) -> None:
        self.calls.events.append("resume")
        self._gate.let_go(Owner.WEIGHTS)

    async def freeze(self) -> None:
        self.calls.events.append("freeze")
        self._gate.hold(Owner.USER)

    async def thaw(self) -> None:
        self.calls.events.append("thaw")
        self._gate.let_go(Owner.USER)

    async def abort(self) -> None:
        self.calls.events.append("abort")
        self._gate.abort()

    async def release(self, memory: EngineMemory) -> None:
        """There is no memory; without weights it has no version.

        Raises:
            EngineRefused: a request is under way.
        """
        if self._gate.num_requests:
            raise EngineRefused(
                f"memory is given back with no request under way, found {self._gate.num_requests} (scripted engine)"
            )
        self.calls.events.append(f"release {memory}")
        self._gate.hold(Owner.MEMORY)
        if memory is EngineMemory.ROLLOUT_WEIGHTS:
            self._staged, self._policy_version = None, NO_VERSION

    async def wake(self, memory: EngineMemory) -> None:
        self.calls.events.append(f"wake {memory}")
        if memory is EngineMemory.KV_CACHE:
            self._gate.let_go(Owner.MEMORY)

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join a meeting of the memory channel; an earlier one is left.

        Raises:
            EngineRefused: another backend, or a run without a memory channel.
        """
        if channel.backend != "memory" or self._settings.memory_channel is None:
            raise EngineRefused(f"the scripted engine takes weights through memory, got {channel.backend!r}")
        self._receiver = self._settings.memory_channel.receiver(channel.port, channel.first_rank)

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        self._check_open()
        self._staged = None
        check_newer(policy_version, self._policy_version)
        if self._receiver is None:
            raise EngineRefused("weights must be connected before they are staged (scripted engine)")
        timeout_s = self._settings.weight_timeout_s
        self._staged = await asyncio.to_thread(_receive, self._receiver, layout, policy_version, timeout_s)
        self.calls.events.append("stage")

    async def verify_weights(self, manifest: WeightManifest) -> None:
        self._check_open()
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
        await self.verify_weights(manifest)
        self._staged = None
        self._policy_version = manifest.policy_version
        self.calls.events.append(f"commit {manifest.policy_version}")

    async def discard_staged_weights(self) -> None:
        self._staged = None
        self.calls.events.append("discard")

    async def close(self) -> None:
        self._is_open = False
        self._gate.open_for_good()
        self.calls.events.append("close")

    def _check_open(self) -> None:
        if not self._is_open:
            raise RunFailed(role="rollout", cause="the scripted engine is not running")

    def _rollout(self, stream: int, index: int, *, hint_ids: IntArray, budget: int, sampling: Sampling) -> Rollout:
        random = np.random.default_rng([stream, self._policy_version])
        wanted = int(random.integers(1, self._script.max_tokens + 1))
        length = min(wanted, budget)
        texts = self._script.texts
        # Uniform over the vocabulary at most: an entropy above a token's own surprise is as a real one may be.
        entropies = random.uniform(0.0, np.log(self._limits.vocab_size), size=length)
        ids = random.integers(0, self._limits.vocab_size, size=length).astype(np.int32)
        logprobs = -random.exponential(entropies + 1e-3).astype(np.float32)
        ends = np.flatnonzero(np.isin(ids, sampling.stop_token_ids))
        length = int(ends[0]) + 1 if len(ends) else length
        return Rollout(
            hint_ids=hint_ids,
            response_ids=ids[:length],
            response_text=texts[index % len(texts)] if texts else f"scripted {index}",
            behavior_logprobs=logprobs[:length],
            entropies=entropies[:length].astype(np.float32),
            entropy_source=sampling.entropy_source,
            stop_reason=StopReason.EOS if len(ends) or wanted <= budget else StopReason.LENGTH,
            version_spans=(VersionSpan(start=0, stop=length, policy_version=self._policy_version),),
        )


def _receive(receiver: MemoryReceiver, layout: WeightLayout, policy_version: int, timeout_s: float) -> _Staged:
    buckets = received_buckets(receiver, layout, policy_version=policy_version, timeout_s=timeout_s)
    return _Staged(layout=layout, checksums=tuple(xxhash.xxh3_64_hexdigest(each.data) for each in buckets))
