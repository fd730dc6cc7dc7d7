"""The rollout benchmark on inputs too small to mean anything, and its arithmetic."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.benchmarks.rollout import Load, Turn, contest, measure_kernel, save_random_policy, seconds_ratio


def make_turn(wall_seconds: float, num_tokens: int, cpu_seconds: float = 1.0) -> Turn:
    return Turn(wall_seconds=wall_seconds, cpu_seconds=cpu_seconds, num_tokens=num_tokens)


def test_a_ratio_is_the_median_over_rounds_of_seconds_per_token() -> None:
    # 2/10 over 1/10 = 2; 3/10 over 1/20 = 6; 1/10 over 1/10 = 1: median 2.
    ours = [make_turn(2, 10), make_turn(3, 10), make_turn(1, 10)]
    theirs = [make_turn(1, 10), make_turn(1, 20), make_turn(1, 10)]
    assert seconds_ratio(ours, theirs) == pytest.approx(2)
    # CPU seconds are 1 everywhere; only the round with 20 tokens differs.
    assert seconds_ratio(ours, theirs, cpu=True) == pytest.approx(1)


def test_the_kernel_has_a_row_per_number_of_rows_and_its_errors() -> None:
    rows = measure_kernel(vocab_size=500, row_counts=(1, 3), num_rounds=1)
    assert [row["rows"] for row in rows] == [1, 3]
    for row in rows:
        assert float(row["over_log_softmax"]) > 0
        assert float(row["entropy_error"]) < 1e-6 > float(row["logprob_error"])


def test_a_random_policy_never_ends_by_itself_and_has_a_tokenizer(tmp_path: Path) -> None:
    path = save_random_policy(tmp_path, vocab_size=400, hidden_size=128, num_layers=1)
    model = AutoModelForCausalLM.from_pretrained(path)
    assert model.config.vocab_size == 400
    assert model.generation_config.eos_token_id is None
    assert AutoTokenizer.from_pretrained(path).chat_template


@pytest.mark.stack
def test_both_samplers_answer_the_same_requests_with_as_many_tokens(tmp_path: Path) -> None:
    path = save_random_policy(tmp_path, vocab_size=400, hidden_size=128, num_layers=1)
    sides = ("none", "entropies")
    load = Load(model_path=path, sides=sides, num_rounds=2, num_groups=2, group_size=2, max_response_tokens=5)
    turns = contest(load)
    for side in sides:
        assert [turn.num_tokens for turn in turns[side]] == [20, 20]
        assert all(turn.wall_seconds > 0 for turn in turns[side])
