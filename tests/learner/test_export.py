"""An exported policy is the policy: transformers and vLLM load it and find the learner's log-probs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_cases import save_tiny_policy
from learner_builders import make_batch, make_work
from toy_policy import write_toy_policy
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm_export_worker import CONFIG, PROMPT_IDS

from learner.canary import canary_difference
from learner.checkpoint_export import export_checkpoint
from learner.config import LearnerConfig, LoraConfig, OptimizerConfig
from learner.export import export_settings, export_weights
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from learner.torch_learner import torch_learner
from learner.weights import bucket_layout
from rollout.vllm_env import worker_environment
from shaping.training import CanaryAnswer

REPOSITORY = Path(__file__).parents[2]
SUPPORT = REPOSITORY / "tests" / "support"


def trained(path: str, lora: LoraConfig = LoraConfig()) -> Learner:  # noqa: B008 - frozen
    config = LearnerConfig(
        engine="torch", dtype="float32", lora=lora, optimizer=OptimizerConfig(learning_rate=3e-3, max_grad_norm=0)
    )
    learner = torch_learner(config, model_path=path, seed=0)
    learner.start()
    learner.step(make_work(make_batch(8), config))
    return learner


def untrained(path: str) -> TorchEngine:
    engine = TorchEngine(LearnerConfig(engine="torch", dtype="float32"), model_path=path, seed=0)
    engine.start()
    return engine


def answers_of(path: Path | str) -> list[CanaryAnswer]:
    """Three random responses with what transformers says of them."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    rng = np.random.default_rng(0)
    answers = []
    for num_response in (1, 9, 30):
        ids = rng.integers(1, 300, 4 + num_response).astype(np.int32)
        with torch.no_grad():
            logits = model(torch.from_numpy(ids).long()[None]).logits[0, 3:-1]
        logprobs = logits.log_softmax(-1).gather(1, torch.from_numpy(ids[4:]).long()[:, None])[:, 0]
        answers.append(
            CanaryAnswer(prompt_ids=ids[:4], response_ids=ids[4:], behavior_logprobs=logprobs.numpy(), temperature=1.0)
        )
    return answers


@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(rank=4, alpha=8.0)], ids=["weights", "adapters"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_transformers_finds_the_learners_logprobs_in_an_export(
    tied: bool, lora: LoraConfig, tied_policy_path: str, untied_policy_path: str, tmp_path: Path
) -> None:
    path = tied_policy_path if tied else untied_policy_path
    learner = trained(path, lora)
    learner.export(tmp_path / "out")
    assert canary_difference(learner._engine, answers_of(tmp_path / "out"), "packed") < 1e-5
    assert canary_difference(learner._engine, answers_of(path), "packed") > 1e-2


def test_a_policy_of_several_shards_is_read_like_one_of_one(untied_policy_path: str, tmp_path: Path) -> None:
    learner = trained(untied_policy_path)
    learner.export(tmp_path / "out")
    engine = learner._engine
    (tmp_path / "out" / "model.safetensors").unlink()
    layout = bucket_layout(engine.parameters(), 50_000)
    export_weights(tmp_path / "out", layout, engine.gathered, writes=True)
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) == len(layout.buckets) > 2
    assert canary_difference(engine, answers_of(tmp_path / "out"), "packed") < 1e-5


def test_an_export_has_the_tokenizer_of_its_start_byte_for_byte(tmp_path: Path) -> None:
    # Split at spaces; transformers itself takes a Qwen2 to split bytes, and would save that.
    start = write_toy_policy(tmp_path / "start")
    export_settings(tmp_path / "out", str(start), "float32")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (start / name).read_bytes()


@pytest.mark.stack
def test_vllm_samples_from_an_export_with_the_learners_logprobs(tmp_path: Path) -> None:
    path = save_tiny_policy(tmp_path / "start")
    learner = trained(path)
    learner.save(tmp_path / "saved")
    export_checkpoint(tmp_path / "saved", path, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "vllm_export_worker.py"), str(tmp_path / "out"), str(tmp_path / "found.json")],
        env={**os.environ, **worker_environment(CONFIG), "PYTHONPATH": f"{REPOSITORY}:{SUPPORT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    sampled = [
        CanaryAnswer(
            prompt_ids=np.array(PROMPT_IDS, dtype=np.int32),
            response_ids=np.array(each["ids"], dtype=np.int32),
            behavior_logprobs=np.array(each["logprobs"], dtype=np.float32),
            temperature=1.0,
        )
        for each in json.loads((tmp_path / "found.json").read_text())
    ]
    assert sum(len(each.response_ids) for each in sampled) > 20
    assert canary_difference(learner._engine, sampled, "packed") < 1e-4
    assert canary_difference(untrained(path), sampled, "packed") > 1e-2
