"""A learner that publishes adapters, and real engines that serve them: both hold the same policy."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from engine_cases import free_port, save_tiny_policy

from learner.config import LearnerConfig, LoraConfig
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from rollout.config import EngineConfig
from rollout.engine import Engine
from rollout.engines import EngineSettings, make_engine
from rollout.vllm_env import worker_environment
from shaping.memory_channel import MemoryChannel
from shaping.records import Sampling
from shaping.training import CanaryAnswer, WeightChannel

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

# Parts of what vLLM fuses (query of query, key and value; up of gate and up), and one that it does not.
LORA = LoraConfig(rank=4, alpha=6.0, targets=("q_proj", "up_proj", "down_proj"), publish="adapter")
PROMPT = np.array([5, 17, 9, 40, 33, 21], dtype=np.int32)


class Run:
    """One learner and one engine of the same starting policy, connected."""

    def __init__(self, kind: str, path: str) -> None:
        self.memory = MemoryChannel() if kind == "hf" else None
        config = LearnerConfig(engine="torch", dtype="float32", lora=LORA, bucket_bytes=5_000)
        self.trainer = TorchEngine(config, model_path=path, seed=0)
        self.learner = Learner(config, engine=self.trainer, model_path=path, rank=0, weight_timeout_s=30)
        settings = EngineSettings(
            config=EngineConfig(
                kind=kind,
                dtype="float32",
                max_num_seqs=8,
                kv_cache_bytes=2**26,
                enforce_eager=True,
                max_proof_error=1e-4,
            ),
            model_path=path,
            max_model_tokens=128,
            seed=1,
            sampling=Sampling(),
            weight_timeout_s=30,
            memory_channel=self.memory,
        )
        self.engine: Engine = make_engine(settings)

    async def start(self) -> None:
        self.learner.start()
        await self.engine.start()
        backend, port = ("memory", self.memory.open(1)) if self.memory else ("gloo", free_port())
        sender = WeightChannel(backend=backend, address="127.0.0.1", port=port, world_size=2)
        receiver = WeightChannel(backend=backend, address="127.0.0.1", port=port, world_size=2, first_rank=1)
        await asyncio.gather(
            asyncio.to_thread(self.learner.connect_weights, sender, self.memory), self.engine.connect_weights(receiver)
        )

    @torch.no_grad()
    def move(self, seed: int) -> None:
        """As training would: every adapter somewhere else."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.trainer._policy.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    async def publish(self, policy_version: int) -> None:
        manifest, _ = await asyncio.gather(
            asyncio.to_thread(self.learner.send_weights, policy_version),
            self.engine.stage_weights(self.learner.weight_layout(), policy_version),
        )
        await self.engine.verify_weights(manifest)
        await self.engine.commit_weights(manifest)

    async def difference(self) -> float:
        """Largest |learner - engine| log-prob of what the engine samples, nats."""
        rollouts = await self.engine.generate(
            prompt_ids=PROMPT,
            hint_ids=np.empty(0, dtype=np.int32),
            num_rollouts=4,
            sampling=Sampling(max_response_tokens=32),
            seed=3,
        )
        assert sum(each.num_tokens for each in rollouts) > 50
        answers = tuple(
            CanaryAnswer(
                prompt_ids=PROMPT,
                response_ids=each.response_ids,
                behavior_logprobs=each.behavior_logprobs,
                temperature=1.0,
            )
            for each in rollouts
        )
        return self.learner.score_canary(answers)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["hf", pytest.param("vllm", marks=pytest.mark.stack)])
async def test_an_engine_serves_the_policy_whose_adapters_it_got(
    kind: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in worker_environment(EngineConfig(dtype="float32")).items() if kind == "vllm" else ():
        monkeypatch.setenv(name, value)
    run = Run(kind, save_tiny_policy(tmp_path_factory.mktemp("policy")))
    try:
        await run.start()
        assert await run.difference() < 1e-4
        for version in (1, 2, 3):
            run.move(seed=version)
            assert await run.difference() > 0.1
            await run.publish(version)
            assert run.engine.policy_version == version
            assert await run.difference() < 1e-4
        layout = run.learner.weight_layout()
        # 2 layers, rank 4, 4 bytes: q 64 + 64, up and down 64 + 128, against 83k numbers of whole weights.
        assert layout.num_bytes == 2 * 4 * 4 * (128 + 192 + 192)
        assert len(layout.buckets) > 1
    finally:
        await run.engine.close()
        run.learner.close()
