"""How the project compiles: cached on disk, without the GIL; typed, so that callers stay checked.

numba's cache notices a change in the file of a function, but not in those of the functions it calls, and would go on
running old code. Here the folder of the cache is named after all that is compiled.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numpy.typing import NDArray

from shaping import support

Function = TypeVar("Function", bound=Callable[..., Any])

Array = NDArray[Any]
Word = Any
"""A uint64 scalar inside compiled code, where arithmetic wraps."""


def cache_folder(sources: Path, constants: Path, base: str) -> str:
    """Where compiled code of these sources belongs.

    Args:
        sources: folder whose Python files are compiled.
        constants: a file whose constants are compiled into them.
        base: the user's choice (NUMBA_CACHE_DIR); "" for the sources' own __pycache__, or, where that cannot be
            written, the folder for temporary files.
    """
    digest = hashlib.sha256()
    for path in (*sorted(sources.glob("*.py")), constants):
        digest.update(path.read_bytes())
    if not base:
        own = sources if os.access(sources, os.W_OK) else Path(tempfile.gettempdir()) / f"lessrl-{os.getuid()}"
        base = str(own / "__pycache__")
    return str(Path(base) / f"kernels-{digest.hexdigest()[:16]}")


def compiled(function: Function) -> Function:
    """Compile at the first call."""
    base = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _CACHE_FOLDER
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    finally:
        numba.config.CACHE_DIR = base


_CACHE_FOLDER = cache_folder(Path(__file__).parent, Path(support.__file__), numba.config.CACHE_DIR)
