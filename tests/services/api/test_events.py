"""Events of a run: in pages, and as server-sent events that a client can lose and take up again."""

import asyncio

from api_service import FREE, RUN, WITH_TOKENS, Service, bearer, check_problem, open_service, open_stream
from report_builders import make_description, make_step

from services.api.access import Access
from services.api.auth import Role
from services.control.machine import Happening
from services.control.records import StoreError
from services.reports import RunState

STREAM = f"{RUN}/events/stream"


async def last_id(service: Service) -> int:
    items = (await service.get(f"{RUN}/events", params={"page_size": 500})).json()["items"]
    return int(items[-1]["id"])


async def test_events_come_in_pages_oldest_first() -> None:
    async with open_service() as service:
        await service.report(Happening.STARTED)
        await service.say(make_step(1), make_step(2))
        whole = (await service.get(f"{RUN}/events", params={"page_size": 500})).json()["items"]
        ids = [event["id"] for event in whole]
        assert ids == sorted(set(ids))
        assert set(whole[0]) == {"id", "at", "type", "message", "state", "failure", "details"}
        seen, after = [], 0
        while True:
            page = (await service.get(f"{RUN}/events", params={"page_size": 2, "after": after})).json()
            seen += page["items"]
            if page["next_page_token"] is None:
                break
            after = page["next_page_token"]
        assert seen == whole
        steps = (await service.get(f"{RUN}/events", params={"type": "step_completed"})).json()["items"]
        assert [event["details"]["step"] for event in steps] == [1, 2]
        both = (await service.get(f"{RUN}/events", params={"type": ["step_completed", "started"]})).json()["items"]
        assert [event["type"] for event in both] == ["started", "step_completed", "step_completed"]


async def test_a_page_that_cannot_be_is_refused() -> None:
    async with open_service() as service:
        for params in ({"page_size": 501}, {"page_size": 0}, {"after": -1}, {"after": 2**63}):
            check_problem(await service.get(f"{RUN}/events", params=params), 422, "validation")


async def test_a_stream_begins_with_what_happens_next() -> None:
    async with open_service() as service, open_stream(service, STREAM) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (await stream.next())["retry"] == "3000"
        await service.report("note", message="hello")
        event = await stream.next()
        assert event["event"] == "note"
        assert event["data"]["message"] == "hello"
        assert int(event["id"]) == event["data"]["id"] == await last_id(service)


async def test_a_stream_that_broke_goes_on_behind_the_last_id_and_loses_nothing() -> None:
    async with open_service() as service:
        for number in range(5):
            await service.report("note", message=f"note {number}")
        items = (await service.get(f"{RUN}/events", params={"type": "note"})).json()["items"]
        for headers, query in (({"last-event-id": str(items[1]["id"])}, ""), ({}, f"after={items[1]['id']}")):
            async with open_stream(service, STREAM, headers, query=query) as stream:
                await stream.next()
                assert [(await stream.next())["data"] for _ in range(3)] == items[2:]
                await service.report("note", message="later")
                assert (await stream.next())["data"]["message"] == "later"


async def test_a_stream_shows_the_types_that_are_asked_for_and_only_its_run() -> None:
    descriptions = (make_description(), make_description(run_id="run-2"))
    query = "type=wanted&type=step_completed"
    async with (
        open_service(descriptions=descriptions) as service,
        open_stream(service, STREAM, query=query) as stream,
    ):
        await stream.next()
        await service.report("note")
        await service.report("wanted", run_id="run-2", message="other run")
        await service.report("wanted", message="own")
        await service.say(make_step(1))
        assert (await stream.next())["data"]["message"] == "own"
        assert (await stream.next())["event"] == "step_completed"


async def test_text_of_a_run_cannot_break_out_of_its_event() -> None:
    """A line separator inside of `data` would end the line, and what follows would be an event of the run's making."""
    hostile = "a\n\nevent: forged\ndata: {}\n\n\r\x85\u2028 b"
    async with open_service() as service, open_stream(service, STREAM) as stream:
        await stream.next()
        await service.report("note", message=hostile)
        await service.report("end")
        assert (await stream.next())["data"]["message"] == hostile
        assert (await stream.next())["event"] == "end"


async def test_streams_are_capped_and_a_closed_one_makes_room() -> None:
    access = Access(limits=FREE.__class__(max_streams=1, read_burst=100))
    async with open_service(access=access) as service:
        async with open_stream(service, STREAM), open_stream(service, f"{RUN}/logs/stream") as second:
            assert second.status == 429
            assert second.headers["retry-after"] == "5"
            assert b"rate-limited" in second.body
        async with open_stream(service, STREAM) as third:
            assert third.status == 200


async def test_a_refused_stream_takes_no_slot() -> None:
    access = Access(limits=FREE.__class__(max_streams=1, read_burst=100))
    async with open_service(access=access) as service:
        for path in ("/v1/runs/other/events/stream", "/v1/runs/other/logs/stream"):
            async with open_stream(service, path) as stream:
                assert stream.status == 404
        async with open_stream(service, STREAM) as stream:
            assert stream.status == 200


async def test_a_store_that_fails_ends_the_stream_so_that_the_client_comes_back() -> None:
    async with open_service() as service:

        async def fail(*_: object, **__: object) -> None:
            raise StoreError("gone")

        service.plane.events_after = fail  # type: ignore[method-assign, assignment]
        async with open_stream(service, STREAM, query="after=0") as stream:
            await stream.next()
            assert (await stream.next())["event"] == "stream_broken"


async def test_a_stream_outlives_the_time_that_an_answer_may_take() -> None:
    access = Access(limits=FREE.__class__(request_seconds=0.05, read_burst=100))
    async with open_service(access=access) as service, open_stream(service, STREAM) as stream:
        await stream.next()
        await asyncio.sleep(0.1)
        await service.report("note")
        assert (await stream.next())["event"] == "note"


async def test_a_ticket_opens_one_stream_once() -> None:
    async with open_service(access=Access(tokens=WITH_TOKENS, limits=FREE)) as service:
        answer = await service.post("/v1/stream-tickets", headers=bearer(Role.READ))
        assert answer.status_code == 201
        assert answer.json()["expires_in"] == 60
        query = f"ticket={answer.json()['ticket']}"
        check_problem(await service.get(f"{RUN}/events?{query}"), 401, "unauthorized")
        async with open_stream(service, STREAM, query=query) as stream:
            assert stream.status == 200
        async with open_stream(service, STREAM, query=query) as stream:
            assert stream.status == 401


async def test_a_run_that_ends_ends_no_stream_of_its_events() -> None:
    async with open_service() as service, open_stream(service, STREAM) as stream:
        await stream.next()
        await service.report(Happening.COMPLETED, RunState.COMPLETED)
        kinds = {(await stream.next())["event"], (await stream.next())["event"]}
        assert kinds == {"completed", "run_state_changed"}
