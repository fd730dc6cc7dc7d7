"""What every body of the API is made of: strict bodies, texts that every store can keep, numbers that JSON has."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_REASON_CHARS = 500
MAX_SECONDS = 30 * 86_400.0
"""A month: a deadline beyond it is a slip of the hand, and no later sum can leave the calendar."""
MAX_COUNT = 2**53 - 1
"""Largest number that every JSON reader holds exactly."""


def storable(text: str) -> str:
    """The text itself.

    Raises:
        ValueError: it holds a NUL or half a surrogate pair, which neither Postgres nor UTF-8 can keep.
    """
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must hold no NUL and no half of a surrogate pair")
    return text


def storable_data(data: Any) -> Any:
    """JSON data of any depth, every text of it storable."""
    if isinstance(data, str):
        storable(data)
    elif isinstance(data, dict):
        for name, value in data.items():
            storable(name)
            storable_data(value)
    elif isinstance(data, list):
        for value in data:
            storable_data(value)
    return data


def _true_number(value: object) -> object:
    """JSON's true is no number, though Python's is."""
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


Text = Annotated[str, AfterValidator(storable)]
Reason = Annotated[
    Text, Field(max_length=MAX_REASON_CHARS, description="a remark for the audit log and for whoever looks")
]
Seconds = Annotated[float, BeforeValidator(_true_number), Field(allow_inf_nan=False, le=MAX_SECONDS)]
Labels = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")],
        Annotated[Text, Field(max_length=256)],
    ],
    Field(max_length=32, description="free words by name, to find runs by"),
]
"""At most 32 of them."""


class Body(BaseModel):
    """A body that a client sends: an unknown member is refused."""

    model_config = ConfigDict(extra="forbid")
