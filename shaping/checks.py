"""The few checks that records make of themselves; each failure is a RecordError with rule, finding and place."""

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
    require(
        isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype == np.int32,
        f"{name} must be a one-dimensional int32 array, got {_describe(array)}",
        where,
    )
    require(len(array) == 0 or int(array.min()) >= 0, f"{name} must be >= 0", where)


def check_floats(array: FloatArray, length: int, name: str, where: str) -> None:
    require(
        isinstance(array, np.ndarray) and array.shape == (length,) and array.dtype == np.float32,
        f"{name} must be float32 of shape ({length},), got {_describe(array)}",
        where,
    )
    require(bool(np.isfinite(array).all()), f"{name} must be finite", where)


def _describe(value: object) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
