"""What a run's summary says, and what it leaves open."""

import pytest
from report_builders import make_description, make_evaluation, make_event, make_step

from services.history import RunHistory, seconds_left, summarise
from services.reports import Failure, RunReport, RunState


def history_of(*reports: RunReport) -> RunHistory:
    history = RunHistory(description=make_description())
    for report in reports:
        history.add(report)
    return history


def test_a_run_without_a_step_leaves_open_what_was_not_measured() -> None:
    failure = Failure(role="rollout", cause="no engine")
    history = history_of(make_event("failed", "", RunState.FAILED, failure=failure))
    summary = summarise(history, state=RunState.FAILED, seconds_to_first_step=None).as_dict()
    for name in (
        "accuracy_first",
        "accuracy_last",
        "accuracy_best",
        "seconds_to_first_step",
        "seconds_training",
        "tokens_generated",
    ):
        assert summary[name] is None, name
    assert summary["failure"] == {"role": "rollout", "cause": "no engine", "group_id": ""}
    assert (summary["steps"], summary["total_steps"]) == (0, 10)


def test_groups_and_tokens_add_up_over_steps() -> None:
    history = history_of(
        make_step(1, groups={"trained": 3, "dropped_no_signal": 1}, num_response_tokens=10),
        make_step(2, groups={"trained": 4}, num_response_tokens=20),
    )
    summary = summarise(history, state=RunState.COMPLETED, seconds_to_first_step=1.0)
    assert summary.groups == {"trained": 7, "dropped_no_signal": 1}
    assert summary.tokens_generated == 30
    assert summary.policy_version == 2


def test_accuracies_are_those_of_the_first_the_last_and_the_best_evaluation() -> None:
    history = history_of(make_evaluation(0, 0.25), make_evaluation(1, 0.75), make_evaluation(2, 0.5))
    summary = summarise(history, state=RunState.COMPLETED, seconds_to_first_step=None)
    assert (summary.accuracy_first, summary.accuracy_last, summary.accuracy_best) == (0.25, 0.5, 0.75)


def test_the_first_cause_is_told_and_only_of_a_failed_run() -> None:
    first, second = Failure(role="learner", cause="first"), Failure(role="rollout", cause="second")
    history = history_of(make_event("failed", failure=first), make_event("failed", failure=second))
    assert summarise(history, state=RunState.FAILED, seconds_to_first_step=None).failure == first
    assert "failure" not in summarise(history, state=RunState.CANCELLED, seconds_to_first_step=None).as_dict()


def test_what_an_earlier_process_died_of_is_not_why_the_run_failed() -> None:
    survived, last = (Failure(role="learner", cause=cause) for cause in ("rank 1 ended", "the loss is nan"))
    events = [make_event("starting"), make_event("run_interrupted", failure=survived)]
    events += [make_event("run_restarted"), make_event("starting"), make_event("failed", failure=last)]
    assert summarise(history_of(*events), state=RunState.FAILED, seconds_to_first_step=None).failure == last


def test_a_series_leaves_out_steps_that_did_not_measure_it() -> None:
    history = history_of(
        make_step(1, {"learner_loss": 1.0}), make_step(2), make_step(3, {"learner_loss": float("nan")})
    )
    assert history.series("learner_loss") == ([1], [1.0])
    assert history.series("learner_kl_nats") == ([], [])


def test_time_left_is_the_mean_pace_times_the_steps_to_go() -> None:
    # 4 steps in 8 s leave 6 of 10 steps at 2 s each.
    assert seconds_left(make_step(4, total_steps=10)) == pytest.approx(12.0)


def test_the_state_is_that_of_the_last_event() -> None:
    assert history_of().state is RunState.PENDING
    assert history_of(make_event("completed", "", RunState.COMPLETED), make_step(1)).state is RunState.COMPLETED
