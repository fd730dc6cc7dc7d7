"""What the hf engine refuses. What it shares with the others: tests/contracts."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_cases import EngineCase, Policy, Sender, header_bytes, save_tiny_policy

from rollout.config import EngineConfig
from rollout.engine import Engine
from rollout.engines import EngineSettings, make_engine
from shaping.errors import ChannelBroken, DataError, EngineRefused, RunFailed
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
        await engine.stage_weights(Policy(model_path).layout(), 1)


async def test_a_transfer_that_stops_half_way_is_refused_and_the_old_weights_serve(model_path: str) -> None:
    channel = MemoryChannel()
    policy = Policy(model_path)
    case = EngineCase(
        "hf", make_engine(make_settings(model_path, memory_channel=channel)), policy, Sender.opened(channel)
    )
    await case.start()
    before = await first_tokens(case.engine)
    policy.perturb(seed=0)
    layout = policy.layout()
    size = layout.buckets[0].num_bytes
    channel.send(case.sender.channel.port, header_bytes(1, 0, 3, size))
    channel.send(case.sender.channel.port, policy.buckets(layout)[0])
    channel.close(case.sender.channel.port)
    with pytest.raises(ChannelBroken, match=r"bucket 1 of version 1 did not arrive: the sender has left"):
        await case.engine.stage_weights(layout, 1)
    with pytest.raises(EngineRefused, match="found none staged"):
        await case.engine.commit_weights(policy.manifest(1))
    assert await first_tokens(case.engine) == before
    await case.connect()
    assert await case.publish() == 1


async def test_what_a_transfer_under_way_brings_is_dropped_after_a_discard(model_path: str) -> None:
    channel = MemoryChannel()
    policy = Policy(model_path)
    case = EngineCase(
        "hf", make_engine(make_settings(model_path, memory_channel=channel)), policy, Sender.opened(channel)
    )
    await case.start()
    staging = asyncio.ensure_future(case.engine.stage_weights(policy.layout(), 1))
    await asyncio.sleep(0)
    await case.engine.discard_staged_weights()
    case.sender.send(policy.buckets(policy.layout()), policy_version=1)
    await staging
    with pytest.raises(EngineRefused, match="found none staged"):
        await case.engine.verify_weights(policy.manifest(1))


async def test_an_engine_that_fails_while_it_loads_verified_weights_serves_nothing_any_more(model_path: str) -> None:
    """The manifest is right, the bytes are of another size than the parameter: half of the weights would be new."""
    channel = MemoryChannel()
    policy = Policy(model_path)
    engine = make_engine(make_settings(model_path, memory_channel=channel))
    case = EngineCase("hf", engine, policy, Sender.opened(channel))
    await case.start()
    manifest = await case.stage()
    staged = engine._staged  # type: ignore[attr-defined]
    engine._staged = replace(staged, buckets=(*staged.buckets[:-1], staged.buckets[-1][:-4]))  # type: ignore[attr-defined]
    with pytest.raises(RunFailed, match="loading version 1 failed"):
        await engine.commit_weights(manifest)
    with pytest.raises(RunFailed, match="loading version 1 failed"):
        await first_tokens(engine)


async def test_two_engines_with_one_seed_sample_the_same_bits(model_path: str) -> None:
    engines = [make_engine(make_settings(model_path)) for _ in range(2)]
    tokens = []
    for engine in engines:
        await engine.start()
        tokens.append(await first_tokens(engine))
    assert tokens[0] == tokens[1]
