"""How the project compiles: cached on disk, without the GIL; typed, so that callers stay checked."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

Array = NDArray[Any]
Word = Any
"""A uint64 scalar inside compiled code, where arithmetic wraps."""


def compiled(function: Function) -> Function:
    """Compile at the first call."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Compile into its callers: a call that passes many arrays costs as much as a lookup."""
    return cast(Function, numba.njit(cache=True, nogil=True, inline="always")(function))
