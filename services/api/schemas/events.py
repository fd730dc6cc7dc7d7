"""Events and log lines of a run."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from services.api.schemas.runs import FailureObject


class EventObject(BaseModel):
    """Something that happened to a run."""

    id: int = Field(description="rises with each event; also the id of the server-sent event")
    at: datetime
    type: str
    message: str
    state: str = Field(description="after the event")
    failure: FailureObject | None = Field(description="null unless the event is a failure")
    details: dict[str, Any] = Field(description="the same for programs; members by type are in docs/control.md")


class EventPage(BaseModel):
    items: list[EventObject]
    next_page_token: str | None = Field(description="give it as `after` for the next page; null on the last page")


class LogLine(BaseModel):
    """One line of a log, control characters escaped."""

    at: datetime | None = Field(description="null where no line before it had a time")
    component: str
    worker: str
    level: str | None = Field(description="null where the line has none")
    text: str


class LogLines(BaseModel):
    """Lines in the order of time."""

    items: list[LogLine]
    position: str = Field(description="give it to the stream as `after` for what comes next")
    complete: bool = Field(description="false where a file was too long to be searched to its beginning")


class TicketObject(BaseModel):
    """Opens one stream, once, for a client that cannot send a header: `?ticket=`."""

    ticket: str
    expires_in: int = Field(description="seconds")
