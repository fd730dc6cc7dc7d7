"""Pages of lists that are in memory: a page ends at an item, and the next begins behind it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from services.api.problems import Problem, invalid

T = TypeVar("T")


def page_of(
    items: Sequence[T], *, key: Callable[[T], str], page_size: int, page_token: str
) -> tuple[list[T], str | None]:
    """The items of a page, and the token of the next.

    Args:
        key: names an item; the token is that of the last one shown.
    Raises:
        Problem: 422, a token that names no item: it is made up, or the item is gone.
    """
    start = 0
    if page_token:
        names = [key(item) for item in items]
        if page_token not in names:
            raise stale_token()
        start = names.index(page_token) + 1
    shown = list(items[start : start + page_size])
    return shown, key(shown[-1]) if len(items) > start + page_size else None


def stale_token() -> Problem:
    """The answer to a page token that leads nowhere."""
    return invalid("page_token", "must be the next_page_token of a page of this list; begin again without one")
