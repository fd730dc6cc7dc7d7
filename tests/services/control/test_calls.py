"""What a request may hold, member by member."""

from typing import Any

import pytest

from services.control.calls import (
    CancelRequest,
    PauseRequest,
    ResumeRequest,
    problems_of_cancel,
    problems_of_pause,
    problems_of_resume,
)
from services.control.machine import Refused, RunLife, cancel, pause, resume
from services.reports import RunState

ACTIVE = tuple(state for state in RunState if not state.is_terminal)


@pytest.mark.parametrize(
    ("members", "pointer", "told"),
    [
        ({"mode": "soft"}, "#/mode", "drain, freeze, abort"),
        ({"release": "gpu"}, "#/release", "none, kv_cache, rollout_weights, all"),
        ({"on_timeout": "wait"}, "#/on_timeout", "fail, freeze, abort"),
        ({"mode": "freeze", "release": "kv_cache"}, "#/release", '"none"'),
        ({"release": "all", "checkpoint": False}, "#/checkpoint", "true"),
        ({"mode": "abort", "on_timeout": "freeze"}, "#/on_timeout", "one of fail"),
        ({"mode": "abort", "on_timeout": "abort"}, "#/on_timeout", "one of fail"),
        ({"mode": "freeze", "on_timeout": "freeze"}, "#/on_timeout", "one of fail, abort"),
        ({"release": "kv_cache", "on_timeout": "freeze"}, "#/on_timeout", '"abort"'),
        ({"timeout_seconds": 0.0}, "#/timeout_seconds", "> 0"),
        ({"timeout_seconds": float("nan")}, "#/timeout_seconds", "> 0"),
        ({"timeout_seconds": float("inf")}, "#/timeout_seconds", "finite"),
        ({"ttl_seconds": 0.0}, "#/ttl_seconds", "> 0"),
        ({"ttl_seconds": -1.0}, "#/ttl_seconds", "> 0"),
    ],
)
def test_a_pause_that_cannot_be_names_the_member_and_what_can(members: dict[str, Any], pointer: str, told: str) -> None:
    request = PauseRequest(**members)
    (problem,) = problems_of_pause(request)
    assert problem.pointer == pointer
    assert told in problem.message
    for state in ACTIVE:
        answer = pause(RunLife(state=state), request)
        assert isinstance(answer, Refused)
        assert (answer.slug, answer.problems) == ("validation", (problem,))


def test_every_problem_is_told_at_once() -> None:
    request = PauseRequest(mode="freeze", release="all", timeout_seconds=-1.0)  # type: ignore[arg-type]
    pointers = [problem.pointer for problem in problems_of_pause(request)]
    assert pointers == ["#/release", "#/checkpoint", "#/timeout_seconds"]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"mode": "drain", "on_timeout": "freeze"},
        {"mode": "drain", "on_timeout": "abort", "release": "all"},
        {"mode": "freeze", "on_timeout": "abort", "checkpoint": True},
        {"mode": "abort", "release": "rollout_weights", "checkpoint": False},
        {"ttl_seconds": 0.5, "timeout_seconds": 0.1},
    ],
)
def test_a_pause_that_can_be_has_no_problem(members: dict[str, Any]) -> None:
    assert problems_of_pause(PauseRequest(**members)) == ()


@pytest.mark.parametrize("name", ["../step-1", "step 1", ".step", "Step-1", "a" * 65, "step-1\n"])
def test_a_checkpoint_is_named_by_a_plain_name(name: str) -> None:
    (problem,) = problems_of_resume(ResumeRequest(from_checkpoint=name))
    assert problem.pointer == "#/from_checkpoint"
    answer = resume(RunLife(state=RunState.RUNNING), ResumeRequest(from_checkpoint=name))
    assert isinstance(answer, Refused)
    assert answer.slug == "validation"
    for good in ("", "step-000010.1", "a" * 64):
        assert problems_of_resume(ResumeRequest(from_checkpoint=good)) == ()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_the_grace_of_a_cancel_is_a_time(seconds: float) -> None:
    (problem,) = problems_of_cancel(CancelRequest(grace_seconds=seconds))
    assert problem.pointer == "#/grace_seconds"
    answer = cancel(RunLife(state=RunState.RUNNING), CancelRequest(grace_seconds=seconds))
    assert isinstance(answer, Refused)
    assert answer.slug == "validation"
