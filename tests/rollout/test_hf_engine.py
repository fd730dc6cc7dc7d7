"""What the hf engine refuses. What it shares with the others: tests/contracts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_cases import Policy, save_tiny_policy

from rollout.config import EngineConfig
from rollout.engine import Engine
from rollout.engines import EngineSettings, make_engine
from shaping.errors import DataError, EngineRefused, RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.records import EntropySource, Sampling
from shaping.training import WeightChannel

IN_MEMORY = WeightChannel(backend="memory", address="", port=0, world_size=2, first_rank=1)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_policy(tmp_path_factory.mktemp("tiny_policy"))


def make_settings(
    model_path: str,
    *,
    max_proof_error: float = 1e-4,
    sampling: Sampling | None = None,
    memory_channel: MemoryChannel | None = None,
) -> EngineSettings:
    return EngineSettings(
        config=EngineConfig(kind="hf", dtype="float32", max_proof_error=max_proof_error),
        model_path=model_path,
        max_model_tokens=64,
        seed=0,
        sampling=sampling or Sampling(max_response_tokens=8),
        memory_channel=memory_channel,
    )


async def first_tokens(engine: Engine) -> list[int]:
    (rollout,) = await engine.generate(
        prompt_ids=np.array([5, 6, 7], dtype=np.int32),
        hint_ids=np.empty(0, dtype=np.int32),
        num_rollouts=1,
        sampling=Sampling(max_response_tokens=8),
        seed=3,
    )
    return [int(each) for each in rollout.response_ids]


async def test_an_engine_that_fails_its_proof_does_not_serve(model_path: str) -> None:
    """No two computations agree within 1e-12."""
    engine = make_engine(make_settings(model_path, max_proof_error=1e-12))
    with pytest.raises(EngineRefused, match=r"within 1e-12 nats, found errors of \S+ and \S+ over 8 tokens"):
        await engine.start()
    with pytest.raises(RunFailed, match="not running"):
        await first_tokens(engine)


@pytest.mark.parametrize("source", list(EntropySource))
async def test_the_proof_holds_for_either_entropy_under_truncation(model_path: str, source: EntropySource) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=20, entropy_source=source)
    info = await make_engine(make_settings(model_path, sampling=sampling)).start()
    assert max(info.max_logprob_error, info.max_entropy_error) < 1e-4


async def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.path must hold a model"):
        await make_engine(make_settings(str(tmp_path))).start()


async def test_a_channel_that_the_engine_cannot_join_is_refused(model_path: str) -> None:
    engine = make_engine(make_settings(model_path))
    await engine.start()
    with pytest.raises(EngineRefused, match="need the run's memory channel"):
        await engine.connect_weights(IN_MEMORY)
    with pytest.raises(EngineRefused, match="memory or gloo, got 'nccl'"):
        await engine.connect_weights(replace(IN_MEMORY, backend="nccl"))
    with pytest.raises(EngineRefused, match="must be connected"):
        await engine.stage_weights(Policy(model_path).layout())


async def test_a_transfer_that_stops_half_way_is_refused_and_the_old_weights_serve(model_path: str) -> None:
    channel = MemoryChannel(num_receivers=1, timeout_s=0.05)
    engine = make_engine(make_settings(model_path, memory_channel=channel))
    await engine.start()
    await engine.connect_weights(IN_MEMORY)
    before = await first_tokens(engine)
    policy = Policy(model_path)
    policy.perturb(seed=0)
    layout = policy.layout()
    channel.send(0, policy.buckets(layout)[0])
    with pytest.raises(EngineRefused, match=r"weights were not received: .*no weight bucket 1 within 0\.05 s"):
        await engine.stage_weights(layout)
    with pytest.raises(EngineRefused, match="found none staged"):
        await engine.commit_weights(policy.manifest(1))
    assert await first_tokens(engine) == before
    for index, bucket in enumerate(policy.buckets(layout)):
        channel.send(index, bucket)
    await engine.stage_weights(layout)
    await engine.commit_weights(policy.manifest(1))
    assert engine.policy_version == 1


async def test_two_engines_with_one_seed_sample_the_same_bits(model_path: str) -> None:
    engines = [make_engine(make_settings(model_path)) for _ in range(2)]
    tokens = []
    for engine in engines:
        await engine.start()
        tokens.append(await first_tokens(engine))
    assert tokens[0] == tokens[1]
