"""Laws of the budget of missing verdicts. A group of 8 with m missing is add(8 - m, m)."""

from services.verdict_budget import LEAST_ROLLOUTS, WINDOW_ROLLOUTS, VerdictBudget
from shaping.groups import Verdict, VerdictStatus

LATE = Verdict(status=VerdictStatus.TIMED_OUT, extracted="10^{10^{9}}\x1b[2J", detail="longer than 10 s")


def add(budget: VerdictBudget, num_missing: int, prompt_id: str = "p1") -> str:
    return budget.add(prompt_id, 8 - num_missing, (LATE,) * num_missing)


def test_a_share_within_the_budget_ends_nothing_and_one_more_does() -> None:
    # 5 % of the first 100: 5 are allowed, the sixth is too many
    assert LEAST_ROLLOUTS == 100
    budget = VerdictBudget(0.05)
    assert add(budget, 5) == ""
    assert add(budget, 1) != ""


def test_what_left_the_window_is_forgotten() -> None:
    # 63 groups of 8 are 504 rollouts: the 5 missing ones of the first group have left the last 500 with the 64th
    assert WINDOW_ROLLOUTS == 500
    budget = VerdictBudget(0.05)
    add(budget, 5)
    for _ in range(63):
        assert add(budget, 0) == ""
    # 5 % of 504 is 25.2
    assert [add(budget, 5) for _ in range(5)] == [""] * 5
    assert add(budget, 1) != ""


def test_the_reason_says_counts_key_and_examples_and_escapes_what_a_policy_wrote() -> None:
    budget = VerdictBudget(0.0)
    reason = add(budget, 1, "aime-3")
    assert reason == (
        "1 of the last 8 rollouts got no verdict, a share of 0 may (run.max_no_verdict_share); for example prompt "
        "aime-3, answer '10^{10^{9}}\\x1b[2J': timed_out (longer than 10 s)"
    )


def test_a_share_of_one_never_ends_a_run() -> None:
    budget = VerdictBudget(1.0)
    assert [add(budget, 8) for _ in range(100)] == [""] * 100


def test_a_share_that_changes_holds_from_the_next_group_on() -> None:
    budget = VerdictBudget(0.05)
    assert add(budget, 5) == ""
    budget.max_share = 0.01
    assert "a share of 0.01 may" in add(budget, 0)
