"""Server-sent events, out of the lines of a response (WHATWG HTML, section 9.2)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event.

    Args:
        event_id: as the server numbers it; "" where it does not.
        kind: the event's type.
        data: the JSON that it carries.
    """

    event_id: str
    kind: str
    data: Any


def read_events(lines: Iterable[str]) -> Iterator[ServerEvent | None]:
    """Events in order; None for each sign of life between them, so that a reader may look up.

    An event that the stream ends in is not one; one whose data is no JSON is given as text.
    """
    event_id, kind, data = "", "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(event_id=event_id, kind=kind, data=_parsed("\n".join(data)))
            kind, data = "message", []
        elif line.startswith(":"):
            yield None
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "event":
                kind = value
            elif name == "id":
                event_id = value


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
