"""What the learner finds of the engines' answers to the canary prompt."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learner_builders import write_tiny_policy
from transformers import AutoModelForCausalLM

from learner.canary import canary_difference
from learner.collate import Microbatch
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from learner.torch_learner import torch_learner
from shaping.training import CanaryAnswer

PROMPT = np.array([3, 1, 4], dtype=np.int32)
RESPONSES = ([5, 9, 2], [6, 5])


@pytest.fixture(scope="module")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(params=["packed", "padded"])
def learner(request: pytest.FixtureRequest, policy_path: str) -> Learner:
    config = LearnerConfig(engine="torch", dtype="float32", layout=request.param)
    made = torch_learner(config, model_path=policy_path, seed=0)
    made.start()
    return made


def answer_of(path: str, response: list[int], *, temperature: float = 1.0) -> CanaryAnswer:
    """The answer of an engine that holds exactly the policy: by a forward pass of transformers."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.tensor([[*PROMPT.tolist(), *response]])
    with torch.no_grad():
        table = (model(input_ids=ids).logits[0, len(PROMPT) - 1 : -1].double() / temperature).log_softmax(-1)
    logprobs = table[torch.arange(len(response)), response]
    return CanaryAnswer(
        prompt_ids=PROMPT,
        response_ids=np.array(response, dtype=np.int32),
        behavior_logprobs=logprobs.numpy().astype(np.float32),
        temperature=temperature,
    )


def off_by(answer: CanaryAnswer, position: int, nats: float) -> CanaryAnswer:
    logprobs = answer.behavior_logprobs.copy()
    logprobs[position] += nats
    return replace(answer, behavior_logprobs=logprobs)


def test_a_difference_that_is_no_number_is_not_hidden_by_one_that_is(learner: Learner, policy_path: str) -> None:
    first, second = (answer_of(policy_path, response) for response in RESPONSES)
    assert np.isnan(learner.score_canary((first, off_by(second, 0, np.nan))))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_engines_that_hold_the_policy_differ_by_rounding(
    learner: Learner, policy_path: str, temperature: float
) -> None:
    answers = tuple(answer_of(policy_path, each, temperature=temperature) for each in RESPONSES)
    assert 0 <= learner.score_canary(answers) < 1e-5


def test_the_largest_difference_of_any_token_of_any_engine_is_found(learner: Learner, policy_path: str) -> None:
    """The same tokens from three engines, of which the last is 0.5 nats off at its last token."""
    first, second = (answer_of(policy_path, each) for each in RESPONSES)
    answers = (first, second, off_by(second, 0, -0.25), first, off_by(first, 2, 0.5))
    assert learner.score_canary(answers) == pytest.approx(0.5, abs=1e-5)
    assert learner.score_canary(answers[:3]) == pytest.approx(0.25, abs=1e-5)


class CountingEngine(TorchEngine):
    """Remembers how many tokens each call scored."""

    def __init__(self, config: LearnerConfig, *, model_path: str) -> None:
        super().__init__(config, model_path=model_path, seed=0)
        self.num_scored: list[int] = []

    def score(self, batch: Microbatch, **options: Any) -> torch.Tensor:
        self.num_scored.append(batch.num_scored)
        return super().score(batch, **options)


def test_the_same_tokens_are_scored_once(policy_path: str) -> None:
    engine = CountingEngine(LearnerConfig(engine="torch", dtype="float32"), model_path=policy_path)
    engine.start()
    first, second = (answer_of(policy_path, each) for each in RESPONSES)
    canary_difference(engine, (first, second, first, first, second), "packed")
    assert engine.num_scored == [len(RESPONSES[0]) + len(RESPONSES[1])]


def test_an_answer_without_a_token_differs_by_nothing(learner: Learner, policy_path: str) -> None:
    empty = replace(
        answer_of(policy_path, [5]),
        response_ids=np.empty(0, dtype=np.int32),
        behavior_logprobs=np.empty(0, dtype=np.float32),
    )
    assert learner.score_canary((empty,)) == 0.0
    assert learner.score_canary(()) == 0.0
