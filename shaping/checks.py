"""Array types of the project, and the checks that records make of themselves; each failure is a RecordError."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shaping.errors import RecordError

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def require(holds: bool, message: str, where: str) -> None:
    if not holds:
        raise RecordError(f"{message} ({where})")


def check_ids(array: IntArray, name: str, where: str) -> None:
    # Not `require`: every group passes here, and its message would be made each time.
    if not (isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype == np.int32):
        raise RecordError(f"{name} must be a one-dimensional int32 array, got {_describe(array)} ({where})")
    require(len(array) == 0 or int(array.min()) >= 0, f"{name} must be >= 0", where)


def check_floats(array: FloatArray, length: int, name: str, where: str) -> None:
    if not (isinstance(array, np.ndarray) and array.shape == (length,) and array.dtype == np.float32):
        raise RecordError(f"{name} must be float32 of shape ({length},), got {_describe(array)} ({where})")
    require(bool(np.isfinite(array).all()), f"{name} must be finite", where)


def _describe(value: object) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def split_rows(flat: NDArray[Any], lengths: Sequence[int]) -> tuple[NDArray[Any], ...]:
    """Views of a flat array [N] as rows of these lengths, whose sum is N."""
    borders = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).tolist()
    return tuple(flat[start:stop] for start, stop in pairwise(borders))
