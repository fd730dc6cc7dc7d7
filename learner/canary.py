"""The canary as the learner sees it: what engines say of a few tokens, against what the policy says of them now."""

from collections.abc import Sequence

import numpy as np

from learner.batch_plan import Layout
from learner.collate import collate
from learner.engine import TrainEngine
from shaping.records import TokenSource
from shaping.training import CanaryAnswer, TrainingSample


def canary_difference(engine: TrainEngine, answers: Sequence[CanaryAnswer], layout: Layout) -> float:
    """Largest |learner - engine| log-prob over every token of the answers, in nats; 0 without a token.

    Answers with the same tokens are scored once. Collective: every rank scores the same answers.

    Args:
        answers: sampled at one temperature.
    """
    if not answers:
        return 0.0
    distinct = {_tokens(answer): answer for answer in answers}
    batch = collate([_sample(answer) for answer in distinct.values()], layout)
    scores = engine.score(
        batch.to(engine.device),
        temperature=answers[0].temperature,
        entropy_temperature=answers[0].temperature,
        differentiable_entropies=False,
        with_gradient=False,
    )
    logprobs, owners = scores[0].float().cpu().numpy(), batch.sequence_ids.numpy()
    scored = {tokens: logprobs[owners == index] for index, tokens in enumerate(distinct)}
    differences = [
        np.abs(scored[_tokens(answer)] - answer.behavior_logprobs) for answer in answers if len(answer.response_ids)
    ]
    return float(np.max([each.max() for each in differences], initial=0.0))


def _tokens(answer: CanaryAnswer) -> tuple[bytes, bytes]:
    return answer.prompt_ids.tobytes(), answer.response_ids.tobytes()


def _sample(answer: CanaryAnswer) -> TrainingSample:
    """The answer as a sample whose response is scored."""
    num_prompt, num_response = len(answer.prompt_ids), len(answer.response_ids)
    no_numbers = np.zeros(num_prompt + num_response, dtype=np.float32)
    is_response = np.arange(num_prompt + num_response) >= num_prompt
    return TrainingSample(
        group_id="canary",
        rollout_index=0,
        token_ids=np.concatenate([answer.prompt_ids, answer.response_ids]),
        loss_mask=is_response,
        behavior_logprobs=no_numbers,
        advantages=no_numbers,
        entropies=no_numbers,
        token_sources=np.where(is_response, TokenSource.GENERATED, TokenSource.PROMPT).astype(np.uint8),
        min_policy_version=0,
    )
