"""What is particular to one reward; the laws that all share are in tests/contracts."""

import json
import threading
from pathlib import Path
from types import ModuleType

import pytest
from group_builders import make_prompt, make_rollout

from shaping.groups import Verdict, VerdictStatus
from shaping.rewards import exact_match, format, math_answer, numeric_answer
from shaping.rewards.base import Reward, RewardResult
from shaping.rewards.math_answer import grade
from shaping.rewards.numeric_answer import grade_number

MATH500 = Path(__file__).resolve().parents[3] / "shared" / "data" / "math500.jsonl"


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("5", "5"),
        ("05", "5"),
        ("1,234", "1234"),
        ("27", "27.0"),
        (r"\dfrac{1}{2}", "1/2"),
        (r"\frac{2}{4}", r"\frac{1}{2}"),
        ("0.5", r"\frac12"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("x^2 + 2x + 1", "(x+1)^2"),
        (r"\{2, 1\}", r"\{1,2\}"),
        ("50\\%", "0.5"),
        ("100\\%", "1"),
        ("x = 5", "5"),
        (r"\text{Evelyn}", "Evelyn"),
        ("10^{10^{9}}", "10^{10^{9}}"),
        ("5", r"\boxed{5}"),
        ("5", "$5$"),
    ],
)
def test_equal_answers_are_correct(answer: str, reference: str) -> None:
    assert grade(f"so it is \\boxed{{{answer}}}.", reference) == Verdict(status=VerdictStatus.CORRECT, extracted=answer)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("6", "5"),
        ("-5", "5"),
        (r"\frac{1}{3}", "0.5"),
        ("(2,1)", "(1,2)"),
        ("x+1", "x-1"),
        ("3.14", r"\pi"),
        ("B", "A"),
    ],
)
def test_different_answers_are_wrong(answer: str, reference: str) -> None:
    assert grade(f"\\boxed{{{answer}}}", reference).status is VerdictStatus.WRONG


def test_a_response_without_a_closed_box_is_unparsable() -> None:
    assert grade("it is 5", "5") == Verdict(status=VerdictStatus.UNPARSABLE, detail="no boxed answer")
    assert grade(r"it is \boxed{5", "5").status is VerdictStatus.UNPARSABLE
    assert grade("", "5").status is VerdictStatus.UNPARSABLE


def test_the_last_number_counts_only_on_request_and_after_the_box() -> None:
    assert grade("it is 5", "5", fallback="last_number").correct
    assert not grade(r"\boxed{6}, or 5", "5", fallback="last_number").correct


@pytest.mark.parametrize("answer", ["10^{10^{9}}", "1000000!", "(" * 3000 + ")" * 3000, ",".join(["1"] * 5001)])
def test_an_answer_beyond_the_limits_is_decided_and_not_correct(answer: str) -> None:
    verdict = grade(f"\\boxed{{{answer}}}", r"\frac{1}{2}")
    assert verdict.status is VerdictStatus.UNPARSABLE
    assert verdict.is_decided
    assert verdict.detail.startswith("the answer has ")
    assert len(verdict.extracted) <= 200


def test_a_reference_beyond_the_limits_gives_no_verdict_unless_the_text_is_equal() -> None:
    assert grade(r"\boxed{1 + 2004!}", "1+2004!").correct
    verdict = grade(r"\boxed{x}", "1 + 2004!")
    assert verdict.status is VerdictStatus.TOO_LONG
    assert not verdict.is_decided
    assert "the reference answer has a factorial" in verdict.detail


def test_grading_works_outside_the_main_thread() -> None:
    # math-verify's own timeouts are signals and would fail here (operations.md section 0, number 8).
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(grade(r"\boxed{\frac{2}{4}}", "0.5")))
    thread.start()
    thread.join()
    assert [verdict.status for verdict in verdicts] == [VerdictStatus.CORRECT]


def test_every_math500_reference_is_its_own_answer() -> None:
    if not MATH500.exists():
        pytest.skip(f"real problems lie beside the project and are absent: {MATH500.name}")
    answers = [json.loads(line)["answer"] for line in MATH500.read_text().splitlines()]
    assert all(grade(f"\\boxed{{{answer}}}", answer).correct for answer in answers)


def score(reward: Reward, text: str, reference: str = "5") -> RewardResult:
    return reward.score(make_rollout(text=text), make_prompt(reference_answer=reference))


def test_math_answer_pays_one_for_correct() -> None:
    reward = math_answer.build(math_answer.Config())
    assert score(reward, r"\boxed{5}").value == 1.0
    assert score(reward, r"\boxed{6}").value == 0.0
    assert score(math_answer.build(math_answer.Config(fallback="last_number")), "5").value == 1.0


@pytest.mark.parametrize(
    ("response", "reference", "status"),
    [
        ("a lot of text 7 #### 18", "work #### 18", VerdictStatus.CORRECT),
        ("#### $18.00", "18", VerdictStatus.CORRECT),
        ("it is 18.", "#### 18", VerdictStatus.CORRECT),
        ("#### 18\n20 more words", "18", VerdictStatus.CORRECT),
        ("#### 1,000", "1000", VerdictStatus.CORRECT),
        ("18 #### 19", "18", VerdictStatus.WRONG),
        ("no number", "18", VerdictStatus.UNPARSABLE),
        ("18 ####", "18", VerdictStatus.UNPARSABLE),
        ("18", "no number", VerdictStatus.CRASHED),
    ],
)
def test_numeric_answer_reads_the_marked_or_last_number(response: str, reference: str, status: VerdictStatus) -> None:
    assert grade_number(response, reference).status is status


def test_numeric_answer_allows_the_tolerance_and_no_more() -> None:
    # relative to max(1, |reference|): 0.01 * 200 = 2
    assert grade_number("202", "200", tolerance=0.01).correct
    assert not grade_number("202.1", "200", tolerance=0.01).correct
    assert grade_number("0.005", "0", tolerance=0.01).correct


def test_exact_match_compares_the_whole_response() -> None:
    reward = exact_match.build(exact_match.Config())
    assert score(reward, " yes\n", "yes").verdict.correct
    assert not score(reward, "Yes", "yes").verdict.correct
    assert not score(reward, "yes or no", "yes").verdict.correct
    assert score(exact_match.build(exact_match.Config(ignore_case=True)), "Yes", "yes").verdict.correct


def test_format_asks_for_a_box_or_for_its_pattern_and_never_decides() -> None:
    boxed = format.build(format.Config())
    assert (score(boxed, r"\boxed{6}").value, score(boxed, "6").value, score(boxed, r"\boxed{6").value) == (1, 0, 0)
    thought = format.build(format.Config(pattern=r"<think>.+</think>"))
    assert (score(thought, "<think>a\nb</think> 6").value, score(thought, "6").value) == (1, 0)
    assert not boxed.decides_correctness


def test_format_refuses_what_is_no_pattern() -> None:
    with pytest.raises(ValueError, match="pattern must be a regular expression"):
        format.Config(pattern="(")


@pytest.mark.parametrize("module", [math_answer, numeric_answer, exact_match])
def test_a_deciding_reward_can_be_told_not_to_decide(module: ModuleType) -> None:
    assert module.build(module.Config()).decides_correctness
    assert not module.build(module.Config(decides=False)).decides_correctness
