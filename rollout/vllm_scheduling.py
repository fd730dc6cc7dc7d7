"""What vLLM's scheduler and memory are told, and a border for every call to vLLM.

The scheduler stands still while anybody holds it: a weight sync, the user, memory that was given back.
"""

from collections.abc import Awaitable
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM

from rollout.engine import EngineMemory
from rollout.request_gate import Owner
from rollout.vllm_terms import can_sleep, one_line
from shaping.errors import EngineRefused, RunFailed

_LOADING = "loading"
_TAGS = {EngineMemory.ROLLOUT_WEIGHTS: "weights", EngineMemory.KV_CACHE: "kv_cache"}


def releasable() -> tuple[EngineMemory, ...]:
    """What vLLM can give back on this machine."""
    return tuple(EngineMemory) if can_sleep() else ()


async def of_vllm(call: Awaitable[Any]) -> Any:
    """A call across vLLM's process border, where every failure is the engine's.

    Its exceptions stay here: whoever hears of the failure may not have vLLM to unpickle them.
    """
    try:
        return await call
    except Exception as error:
        raise RunFailed(role="rollout", cause=f"vLLM failed: {one_line(error)}") from error


class Scheduling:
    """Holds vLLM's scheduler for its owners; requests under way keep their place and go on token by token."""

    def __init__(self) -> None:
        self._owners: set[str] = set()
        self._released: EngineMemory | None = None

    async def hold(self, llm: AsyncLLM, owner: Owner) -> None:
        """Requests stop at a token border and keep their KV cache."""
        self._owners.add(owner)
        await of_vllm(llm.pause_generation(mode="keep", clear_cache=False))

    async def let_go(self, llm: AsyncLLM, owner: Owner) -> None:
        """Harmless for one who holds nothing."""
        await self._without(llm, owner)

    async def begin_load(self, llm: AsyncLLM) -> None:
        """Hold it for new weights; every KV cache is forgotten. Only `end_load` ends it: half-loaded weights may not be
        sampled from, whoever else lets go."""
        self._owners.add(_LOADING)
        try:
            await of_vllm(llm.pause_generation(mode="keep", clear_cache=True))
        except BaseException:
            await self.end_load(llm)
            raise

    async def end_load(self, llm: AsyncLLM) -> None:
        await self._without(llm, _LOADING)

    async def release(self, llm: AsyncLLM, memory: EngineMemory) -> None:
        """Give memory back; vLLM refuses where a request is under way.

        Raises:
            EngineRefused: this machine's vLLM cannot.
        """
        if memory not in releasable():
            raise EngineRefused(f"vLLM can give back {memory} on a GPU only, found none (rollout engine)")
        if self._released is memory:
            return
        self._owners.add(Owner.MEMORY)
        await of_vllm(llm.pause_generation(mode="keep", clear_cache=True))
        if memory is EngineMemory.KV_CACHE:
            await of_vllm(llm.release_kv_cache_memory())
        else:
            # Level 2 keeps no copy in the host's memory: the learner sends the weights again.
            await of_vllm(llm.sleep(level=2, mode="keep"))
        self._released = memory

    async def wake(self, llm: AsyncLLM, memory: EngineMemory) -> None:
        """Take memory again; with the KV cache, which comes last, requests may go on."""
        if self._released is None or (memory is EngineMemory.ROLLOUT_WEIGHTS and self._released is not memory):
            return
        await of_vllm(llm.wake_up(tags=[_TAGS[memory]]))
        if memory is EngineMemory.KV_CACHE:
            self._released = None
            await self._without(llm, Owner.MEMORY)

    async def _without(self, llm: AsyncLLM, owner: str) -> None:
        self._owners.discard(owner)
        if not self._owners:
            await of_vllm(llm.resume_generation())
        elif owner == Owner.MEMORY:
            # vLLM resumes by itself once all its memory is there.
            await of_vllm(llm.pause_generation(mode="keep", clear_cache=False))
