"""Every engine kind, started, for the shared contract."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import torch
from engine_cases import EngineCase, Policy, Sender, make_tokenizer, save_tiny_policy
from transformers import PreTrainedTokenizerFast

from rollout.config import EngineConfig
from rollout.engines import EngineSettings, make_engine
from rollout.vllm_env import worker_environment
from shaping.memory_channel import MemoryChannel
from shaping.records import Sampling

FIRST_VERSION = 7
"""As a resumed run would start."""


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_policy(tmp_path_factory.mktemp("tiny_policy"))


@pytest_asyncio.fixture(
    scope="session", loop_scope="session", params=["scripted", "hf", pytest.param("vllm", marks=pytest.mark.stack)]
)
async def case(request: pytest.FixtureRequest, tiny_model_path: str) -> AsyncIterator[EngineCase]:
    """Every engine kind in turn, started and connected, serving the tiny policy."""
    kind = request.param
    memory = None if kind == "vllm" else MemoryChannel()
    config = EngineConfig(
        kind=kind, dtype="float32", max_num_seqs=64, kv_cache_bytes=2**26, enforce_eager=True, max_proof_error=1e-4
    )
    settings = EngineSettings(
        config=config,
        model_path=tiny_model_path,
        max_model_tokens=512,
        seed=1,
        sampling=Sampling(temperature=0.7, top_p=0.95, top_k=20),
        policy_version=FIRST_VERSION,
        weight_timeout_s=20,
        memory_channel=memory,
    )
    threads = torch.get_num_threads()
    # Rounding, and with it sampled tokens, must not depend on the machine's load.
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in worker_environment(config).items() if kind == "vllm" else ():
            patch.setenv(name, value)
        each = EngineCase(kind, make_engine(settings), Policy(tiny_model_path), Sender.opened(memory))
        await each.start()
        yield each
        await each.engine.close()
    torch.set_num_threads(threads)
