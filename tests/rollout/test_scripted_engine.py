"""The scripted engine's own rules. What it shares with the others: tests/contracts."""

import json
from pathlib import Path

import numpy as np
import pytest
from engine_cases import make_scripted_engine, scripted_settings

from rollout.engines import make_engine
from rollout.scripted_engine import Script
from shaping.errors import DataError, EngineRefused, RunFailed
from shaping.records import Sampling, StopReason
from shaping.training import WeightChannel

PROMPT = np.array([5, 6], dtype=np.int32)
NO_HINT = np.empty(0, dtype=np.int32)


async def test_texts_of_the_script_are_used_in_turn() -> None:
    engine = make_scripted_engine(Script(texts=("right", "wrong")))
    await engine.start()
    rollouts = await engine.generate(prompt_ids=PROMPT, hint_ids=NO_HINT, num_rollouts=3, sampling=Sampling(), seed=1)
    assert [each.response_text for each in rollouts] == ["right", "wrong", "right"]


async def test_a_budget_that_cuts_an_answer_ends_it_by_length() -> None:
    engine = make_scripted_engine(Script(max_tokens=50))
    await engine.start()
    sampling = Sampling(max_response_tokens=5)
    rollouts = await engine.generate(prompt_ids=PROMPT, hint_ids=NO_HINT, num_rollouts=64, sampling=sampling, seed=1)
    cut = [each for each in rollouts if each.stop_reason is StopReason.LENGTH]
    assert cut and all(each.num_tokens == 5 for each in cut)
    assert {each.stop_reason for each in rollouts} == {StopReason.LENGTH, StopReason.EOS}


async def test_calls_are_told_in_order() -> None:
    engine = make_scripted_engine()
    await engine.start()
    await engine.pause()
    await engine.resume()
    await engine.close()
    assert engine.calls.events == ["start", "pause", "resume", "close"]


async def test_an_engine_that_has_not_started_refuses() -> None:
    with pytest.raises(RunFailed, match="not running"):
        await make_scripted_engine().generate(
            prompt_ids=PROMPT, hint_ids=NO_HINT, num_rollouts=1, sampling=Sampling(), seed=1
        )


async def test_weights_over_a_process_group_are_refused() -> None:
    channel = WeightChannel(backend="gloo", address="127.0.0.1", port=1, world_size=2, first_rank=1)
    with pytest.raises(EngineRefused, match="through memory, got 'gloo'"):
        await make_scripted_engine().connect_weights(channel)


async def test_the_factory_reads_the_vocabulary_from_the_models_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 77}))
    engine = make_engine(scripted_settings(model_path=str(tmp_path)))
    assert (await engine.start()).vocab_size == 77
    with pytest.raises(DataError, match=r"must hold config\.json"):
        make_engine(scripted_settings(model_path=str(tmp_path / "nothing")))
