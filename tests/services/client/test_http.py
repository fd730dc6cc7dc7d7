"""One call in, JSON or a typed error out."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from services.client.endpoint import Endpoint
from services.client.errors import CommandFailed, Refused, Unreachable
from services.client.http import MAX_SENDS, MAX_TURNED_AWAY, ControlClient

TOKEN = "a-secret-of-mine-0123456789"
PROBLEM = {"type": "urn:lessrl:problem:run-finished", "title": "Run finished", "detail": "cannot pause: the run failed"}

Answer = Callable[[httpx.Request], httpx.Response]


def client_of(answer: Answer, *, token: str = TOKEN, slept: list[float] | None = None) -> ControlClient:
    endpoint = Endpoint(url="http://127.0.0.1:8470", token=token, named_by="a test")
    sleep = (slept if slept is not None else []).append
    return ControlClient(endpoint, transport=httpx.MockTransport(answer), sleep=sleep)


def problem(status: int, **members: Any) -> Answer:
    body = {**PROBLEM, "status": status, **members}
    return lambda _: httpx.Response(status, json=body)


def refused(answer: Answer) -> CommandFailed:
    with client_of(answer) as client, pytest.raises(CommandFailed) as error:
        client.get("/v1/runs")
    return error.value


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 2), (403, 2), (404, 2), (422, 2), (409, 4), (412, 4), (428, 4), (429, 3), (500, 3), (503, 3)],
)
def test_each_refusal_has_its_exit_code(status: int, code: int) -> None:
    error = refused(problem(status))
    assert isinstance(error, Refused) and (error.status, error.exit_code) == (status, code)
    assert error.slug == "run-finished"


def test_conflict_says_the_state_and_what_it_allows() -> None:
    said = str(
        refused(problem(409, current_state="pausing", allowed_actions=["resume", "cancel"], operation_id="op-3"))
    )
    assert said == (
        "cannot pause: the run failed; it is pausing and allows resume, cancel; in the way is operation op-3"
    )


def test_refused_body_names_each_member_once() -> None:
    errors = [{"pointer": "#/a", "message": "unknown key"}, {"pointer": "#/b", "message": "cannot pause"}]
    assert str(refused(problem(422, errors=errors))) == "cannot pause: the run failed; #/a: unknown key"


def test_missing_token_says_where_to_put_it() -> None:
    assert "set LESSRL_TOKEN" in str(refused(problem(401)))


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(404, text="<html>"),
        lambda _: httpx.Response(200, text="hello"),
        lambda _: httpx.Response(200, json=[1]),
        lambda _: httpx.Response(302, headers={"Location": "http://elsewhere"}),
    ],
)
def test_what_answers_and_is_no_control_plane_is_not_reached(answer: Answer) -> None:
    error = refused(answer)
    assert isinstance(error, Unreachable) and error.exit_code == 3
    assert "http://127.0.0.1:8470 (a test)" in str(error) and "something else" in str(error)


def break_off(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Connection refused", request=request)


def test_silence_names_the_address_and_what_to_do() -> None:
    error = refused(break_off)
    assert isinstance(error, Unreachable) and error.exit_code == 3
    assert "Connection refused" in str(error) and "--url or LESSRL_URL" in str(error)


def test_token_is_sent_and_never_said() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return problem(401)(request)

    assert TOKEN not in str(refused(answer))
    with client_of(answer, token="") as client, pytest.raises(Refused):
        client.get("/v1/runs")
    assert seen == [f"Bearer {TOKEN}", None]


def test_call_that_may_be_repeated_survives_a_broken_connection() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return break_off(request) if len(keys) < MAX_SENDS else httpx.Response(201, json={"id": "run_1"})

    with client_of(answer) as client:
        assert client.call("POST", "/v1/runs", {}, headers={"Idempotency-Key": "k"}) == {"id": "run_1"}
    assert keys == ["k"] * MAX_SENDS


def test_call_that_may_not_be_repeated_is_sent_once() -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return break_off(request)

    with client_of(answer) as client, pytest.raises(Unreachable):
        client.call("PATCH", "/v1/runs/run_1/config", {}, repeat=False)
    assert sent == ["PATCH"]


def test_who_is_turned_away_waits_as_long_as_is_said_and_not_for_ever() -> None:
    slept: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, json={**PROBLEM, "status": 429}, headers={"Retry-After": "2"})

    with client_of(answer, slept=slept) as client, pytest.raises(Refused):
        client.get("/v1/runs")
    assert slept == [2.0] * MAX_TURNED_AWAY


def test_pages_are_one_list_and_its_limit_holds() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        asked.append(query)
        first, size = int(query.get("after", 0)), min(2, int(query["page_size"]))
        items = [{"id": number} for number in range(first, min(5, first + size))]
        return httpx.Response(200, json={"items": items, "next_page_token": str(first + 2) if first + 2 < 5 else None})

    with client_of(answer) as client:
        assert [each["id"] for each in client.pages("/x", cursor="after", kind="")] == [0, 1, 2, 3, 4]
        assert [each["id"] for each in client.pages("/x", cursor="after", limit=3)] == [0, 1, 2]
    # What was not said is not asked; the last page of a limited list is asked for no more than is left.
    assert asked[0] == {"page_size": "500"}
    assert [each["page_size"] for each in asked[3:]] == ["3", "1"]


def test_stream_gives_events_and_says_which_one_was_the_last() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("last-event-id"))
        return httpx.Response(200, text='id: 5\nevent: paused\ndata: {"a": 1}\n\n')

    with client_of(answer) as client, client.stream("/x", after="4") as events:
        assert [event and (event.event_id, event.data) for event in events] == [("5", {"a": 1})]
    assert seen == ["4"]


def test_stream_that_is_refused_is_a_refusal() -> None:
    with client_of(problem(404)) as client, pytest.raises(Refused), client.stream("/x"):
        pass


def test_bodies_are_json() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"got": json.loads(request.content)})

    with client_of(answer) as client:
        assert client.call("POST", "/x", {"mode": "drain"}) == {"got": {"mode": "drain"}}


def test_proxies_of_the_environment_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ControlClient(Endpoint(url="http://127.0.0.1:1", named_by="a test")) as client:
        assert client._http._mounts == {}
