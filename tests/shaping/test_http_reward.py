"""An external scorer over real sockets: batches, tries, deadlines, and answers that cannot be used."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from group_builders import make_request
from scripted_scorer import Answer, ScriptedScorer, by_length

from shaping.groups import VerdictStatus
from shaping.rewards.base import RewardResult
from shaping.rewards.http import Config, build

GOOD = Answer(body=by_length)


def ask(scorer: ScriptedScorer, texts: list[str], **options: Any) -> list[RewardResult]:
    reward = build(Config(url=scorer.url, **{"backoff_seconds": 0.0} | options))
    return reward.score_batch([make_request(text) for text in texts])


def test_results_come_in_order_whatever_the_batches() -> None:
    texts = ["x" * length for length in range(10)]
    for batch_size, num_requests in ((1, 10), (3, 4), (10, 1), (32, 1)):
        with ScriptedScorer([GOOD]) as scorer:
            results = ask(scorer, texts, batch_size=batch_size)
            assert [result.value for result in results] == list(range(10))
            assert len(scorer.requests) == num_requests


def test_the_scorer_is_told_the_prompt_the_response_and_the_reference() -> None:
    with ScriptedScorer([GOOD]) as scorer:
        ask(scorer, ["\ud800 \x00 \N{SNOWMAN}"])
    assert scorer.requests[0]["items"] == [
        {
            "prompt_id": "p",
            "messages": [{"role": "user", "content": "what is 2 + 3?"}],
            "response": "\ud800 \x00 \N{SNOWMAN}",
            "reference": "5",
        }
    ]


def test_no_request_is_made_for_nothing() -> None:
    with ScriptedScorer([GOOD]) as scorer:
        assert ask(scorer, []) == []
    assert scorer.requests == []


def test_it_works_where_an_event_loop_runs() -> None:
    async def inside() -> list[RewardResult]:
        return ask(scorer, ["ab"])

    with ScriptedScorer([GOOD]) as scorer:
        assert asyncio.run(inside())[0].value == 2.0


def test_correct_is_what_the_scorer_says_or_what_reaches_the_threshold() -> None:
    told = [{"score": 0.7}, {"score": 0.69}, {"score": -3, "correct": True}, {"score": 1, "correct": False}]
    with ScriptedScorer([Answer(body={"results": told})]) as scorer:
        results = ask(scorer, ["a", "b", "c", "d"], threshold=0.7, decides=True)
    assert [result.verdict.correct for result in results] == [True, False, True, False]
    assert [result.value for result in results] == [0.7, 0.69, -3.0, 1.0]


@pytest.mark.parametrize("failure", [Answer(status=503), Answer(status=500), Answer(status=429), Answer(breaks=True)])
def test_what_may_pass_is_tried_again(failure: Answer) -> None:
    with ScriptedScorer([failure, failure, GOOD]) as scorer:
        assert ask(scorer, ["abc"])[0].value == 3.0
        assert len(scorer.requests) == 3


@pytest.mark.parametrize("failure", [Answer(status=503, body=b"busy\x1b[31m"), Answer(breaks=True)])
def test_tries_end_and_give_no_verdict_with_the_reason(failure: Answer) -> None:
    with ScriptedScorer([failure]) as scorer:
        (result,) = ask(scorer, ["abc"], max_retries=2)
        assert len(scorer.requests) == 3
    assert result.verdict.status is VerdictStatus.CRASHED
    assert ("HTTP 503" in result.verdict.detail) or ("Server disconnected" in result.verdict.detail)
    assert result.verdict.detail.isprintable()


@pytest.mark.parametrize("status", [204, 302, 400, 401, 404, 422])
def test_what_cannot_pass_is_not_tried_again(status: int) -> None:
    with ScriptedScorer([Answer(status=status, headers={"Location": "/elsewhere"}), GOOD]) as scorer:
        (result,) = ask(scorer, ["abc"])
        assert len(scorer.requests) == 1
    assert result.verdict.status is VerdictStatus.CRASHED
    assert f"HTTP {status}" in result.verdict.detail


def test_nobody_there_is_a_crash_and_not_an_exception() -> None:
    with ScriptedScorer([GOOD]) as scorer:
        pass
    (result,) = ask(scorer, ["abc"], max_retries=1)
    assert result.verdict.status is VerdictStatus.CRASHED
    assert "ConnectError" in result.verdict.detail


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "must be JSON"),
        (b"<html>", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        ([1.0, 2.0], "must hold 2 results"),
        ({"scores": [1.0, 2.0]}, "must hold 2 results"),
        ({"results": []}, "must hold 2 results, found 0"),
        ({"results": [{"score": 1.0}]}, "must hold 2 results, found 1"),
        ({"results": [{"score": 1.0}, 1.0]}, r"a result must be an object, got '1.0' (results[1])"),
        ({"results": [{"score": 1.0}, {}]}, r"score must be a number within 1e+09, got 'None' (results[1])"),
        ({"results": [{"score": 1.0}, {"score": "1"}]}, "score must be a number"),
        ({"results": [{"score": 1.0}, {"score": True}]}, "score must be a number"),
        ({"results": [{"score": 1.0}, {"score": float("nan")}]}, "score must be a number"),
        ({"results": [{"score": 1.0}, {"score": float("inf")}]}, "score must be a number"),
        ({"results": [{"score": 1.0}, {"score": 1.0, "correct": "yes"}]}, "correct must be true or false"),
    ],
)
def test_an_answer_that_cannot_be_used_is_no_verdict_for_its_batch(body: Any, reason: str) -> None:
    with ScriptedScorer([Answer(body=body), GOOD]) as scorer:
        results = ask(scorer, ["ab", "cd", "efg"], batch_size=2, max_concurrent=1)
    assert [result.verdict.status for result in results[:2]] == [VerdictStatus.CRASHED] * 2
    assert all(reason in result.verdict.detail for result in results[:2])
    assert results[2].value == 3.0


def test_an_error_of_one_item_is_no_verdict_for_that_item_alone() -> None:
    told = [{"score": 1.0}, {"score": 0.0, "error": "no\nGPU"}]
    with ScriptedScorer([Answer(body={"results": told})]) as scorer:
        right, wrong = ask(scorer, ["ab", "cd"])
    assert right.verdict.correct
    assert wrong.verdict.status is VerdictStatus.CRASHED
    assert wrong.verdict.detail == r"the scorer says 'no\nGPU'"


@pytest.mark.parametrize("answer", [Answer(hangs=True), Answer(hangs=True, body=b'{"results": [')])
def test_an_answer_that_does_not_come_or_does_not_end_is_a_time_out(answer: Answer) -> None:
    with ScriptedScorer([answer]) as scorer:
        (result,) = ask(scorer, ["abc"], request_seconds=0.2)
        assert len(scorer.requests) == 1
    assert result.verdict.status is VerdictStatus.TIMED_OUT
    assert result.verdict.detail == "no answer within request_seconds 0.2"


def test_the_total_deadline_covers_all_batches() -> None:
    with ScriptedScorer([Answer(hangs=True)]) as scorer:
        results = ask(scorer, ["a", "b", "c"], batch_size=1, max_concurrent=1, total_seconds=0.3)
    assert [result.verdict.status for result in results] == [VerdictStatus.TIMED_OUT] * 3
    assert {result.verdict.detail for result in results} == {"no answer within total_seconds 0.3"}


def test_a_batch_that_is_done_is_kept_when_another_runs_out_of_time() -> None:
    with ScriptedScorer([GOOD, Answer(hangs=True)]) as scorer:
        done, hung = ask(scorer, ["abc", "d"], batch_size=1, max_concurrent=1, total_seconds=0.5)
    assert done.value == 3.0
    assert hung.verdict.status is VerdictStatus.TIMED_OUT


@pytest.mark.parametrize("wish", ["0", format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)])
def test_retry_after_is_honoured(wish: str) -> None:
    # The pause of the back-off would be an hour.
    with ScriptedScorer([Answer(status=429, headers={"Retry-After": wish}), GOOD]) as scorer:
        assert ask(scorer, ["abc"], backoff_seconds=3600.0, total_seconds=7200.0)[0].value == 3.0


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"Retry-After": "soon"}, {}])
def test_a_pause_beyond_the_total_deadline_is_not_begun(headers: dict[str, str]) -> None:
    with ScriptedScorer([Answer(status=503, headers=headers), GOOD]) as scorer:
        (result,) = ask(scorer, ["abc"], backoff_seconds=3600.0, total_seconds=60.0)
    assert result.verdict.status is VerdictStatus.CRASHED
    assert "HTTP 503" in result.verdict.detail


def test_a_token_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_TOKEN", "canary-7f3a")
    echo = Answer(status=401, body=b"bad token canary-7f3a")
    items = Answer(body={"results": [{"error": "canary-7f3a"}]})
    with ScriptedScorer([echo, items]) as scorer:
        results = [ask(scorer, ["a"], token_env="SCORER_TOKEN")[0] for _ in range(2)]
    assert scorer.requests[0]["headers"]["Authorization"] == "Bearer canary-7f3a"
    reward = build(Config(url=scorer.url, token_env="SCORER_TOKEN"))
    assert not any("canary" in repr(each) for each in (*results, reward, reward.config))


def test_a_token_that_is_not_set_is_no_verdict_and_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCORER_TOKEN", raising=False)
    with ScriptedScorer([GOOD]) as scorer:
        (result,) = ask(scorer, ["a"], token_env="SCORER_TOKEN")
    assert scorer.requests == []
    assert result.verdict.status is VerdictStatus.CRASHED
    assert "SCORER_TOKEN is not set where shaping runs" in result.verdict.detail


def test_a_secret_in_the_url_is_looked_up_when_it_is_used_and_never_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCORER_KEY", "canary-7f3a")
    (tmp_path / "key").write_text("canary/9b2c\n")
    echo = Answer(status=401, body=b"bad keys canary-7f3a and canary%2F9b2c")
    with ScriptedScorer([echo]) as scorer:
        url = f"{scorer.url}?a=${{env:SCORER_KEY}}&b=${{file:{tmp_path}/key}}"
        reward = build(Config(url=url))
        (result,) = reward.score_batch([make_request("a")])
    assert scorer.requests[0]["path"] == "/score?a=canary-7f3a&b=canary/9b2c"
    assert result.verdict.detail.count("[token]") == 2
    assert not any("canary" in repr(each) for each in (result, reward, reward.config))


def test_a_secret_is_not_told_in_the_spelling_of_the_url_that_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_KEY", 'canary "7f3a"&9b2c')
    echo = Answer(status=401, body=b"/score?key=canary%20%227f3a%22&9b2c may not")
    with ScriptedScorer([echo]) as scorer:
        (result,) = build(Config(url=f"{scorer.url}?key=${{env:SCORER_KEY}}")).score_batch([make_request("a")])
    assert scorer.requests[0]["path"] == "/score?key=canary%20%227f3a%22&9b2c"
    assert "/score?key=[token] may not" in result.verdict.detail


def test_a_reference_to_nothing_is_no_verdict_and_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCORER_KEY", raising=False)
    with ScriptedScorer([GOOD]) as scorer:
        reward = build(Config(url=f"{scorer.url}?key=${{env:SCORER_KEY}}"))
        (result,) = reward.score_batch([make_request("a")])
    assert scorer.requests == []
    assert result.verdict.status is VerdictStatus.CRASHED
    assert "found none for ${env:SCORER_KEY}" in result.verdict.detail


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "scorer:80"}, "url must be http"),
        ({"url": "ftp://scorer"}, "url must be http"),
        ({"url": "http://"}, "url must be http"),
        ({"url": "http://me:canary@scorer"}, "url must hold no password"),
        ({"batch_size": 0}, "batch_size must be >= 1"),
        ({"max_concurrent": 0}, "max_concurrent must be >= 1"),
        ({"max_retries": -1}, "max_retries must be >= 0"),
        ({"backoff_seconds": -1.0}, "backoff_seconds must be >= 0"),
        ({"request_seconds": 0.0}, "request_seconds must be > 0"),
        ({"total_seconds": float("inf")}, "total_seconds must be > 0 and finite"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        Config(**{"url": "http://scorer"} | options)
    assert "canary" not in str(refused.value)


def test_an_answer_without_end_is_cut() -> None:
    with ScriptedScorer([Answer(body=b" " * (17 * 1024**2))]) as scorer:
        (result,) = ask(scorer, ["abc"])
    assert "the answer has more than 16777216 bytes" in result.verdict.detail


def test_batches_are_under_way_side_by_side_and_never_more_than_allowed() -> None:
    both, lock = threading.Barrier(2, timeout=10), threading.Lock()
    under_way, peaks = set(), []

    def scores(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        with lock:
            under_way.add(items[0]["response"])
            peaks.append(len(under_way))
        # Nobody passes alone.
        both.wait()
        with lock:
            under_way.discard(items[0]["response"])
        return by_length(items)

    with ScriptedScorer([Answer(body=scores)]) as scorer:
        results = ask(scorer, ["x" * length for length in range(20)], batch_size=1, max_concurrent=2)
    assert [result.value for result in results] == list(range(20))
    assert max(peaks) == 2
