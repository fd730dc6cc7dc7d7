"""The config of a run, and its live keys."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class LiveRowObject(BaseModel):
    """A recipe key that may change while a run goes on."""

    key: str = Field(description="dotted recipe key; components of lists are named by their kind")
    applies: str = Field(description="next_step or next_group: the border at which a change takes effect")
    kind: str = Field(description="number, integer or choice")
    minimum: float | None = Field(description="the smallest value; null: none")
    maximum: float | None = Field(description="the largest value; null: none")
    above: float | None = Field(description="every value is above it; null: no such end")
    below: float | None = Field(description="every value is below it; null: no such end")
    choices: list[str] = Field(description="of a choice; empty otherwise")
    meaning: str


class LiveKeyObject(LiveRowObject):
    """A live key of one run."""

    value: Any = Field(description="as it is wanted now, applied or not; null: not written, so the component's default")


class PendingObject(BaseModel):
    """A change that was taken and has not taken effect yet."""

    value: Any
    applies: str


class ConfigObject(BaseModel):
    """The resolved recipe with every live change in it; secrets masked."""

    generation: int = Field(description="also the ETag")
    config: dict[str, Any]
    live_keys: list[LiveKeyObject]
    pending: dict[str, PendingObject] = Field(description="by dotted key: changes that have not taken effect yet")


class ConfigAnswerObject(BaseModel):
    """What a change did."""

    generation: int
    applied: dict[str, Any] = Field(description="keys that have that value already")
    pending: dict[str, PendingObject] = Field(description="keys that take effect at a border")


class GenerationObject(BaseModel):
    """One change of the config."""

    generation: int
    at: datetime
    by: str
    patch: dict[str, Any] = Field(description="values by dotted key; empty for generation 1, the recipe itself")
    applies: dict[str, str]
    at_step: int | None = Field(description="first learner step that it held for; null while it is pending")
    error: str | None = Field(description="why the run could not take it, so that it never holds; null otherwise")


class GenerationPage(BaseModel):
    items: list[GenerationObject]
    next_page_token: str | None = Field(description="null on the last page")
