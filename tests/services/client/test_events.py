"""Server-sent events out of lines."""

from services.client.events import ServerEvent, read_events


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        *("retry: 3000", ": events", ""),
        *("id: 7", "event: paused", 'data: {"a": 1}', ""),
        *("event: two lines", 'data: {"a":', "data:2}", ""),
        *("data: no json", ""),
        *("event: without data", ""),
        *("id: 9", "data: 9", "", "data: the stream ends in it"),
    ]
    assert list(read_events(lines)) == [
        None,
        ServerEvent(event_id="7", kind="paused", data={"a": 1}),
        # An id holds until the next one; a type holds for its own event alone.
        ServerEvent(event_id="7", kind="two lines", data={"a": 2}),
        ServerEvent(event_id="7", kind="message", data="no json"),
        ServerEvent(event_id="9", kind="message", data=9),
    ]
