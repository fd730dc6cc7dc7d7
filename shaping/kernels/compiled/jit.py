"""How the project compiles: cached on disk, without the GIL; typed, so that callers stay checked.

numba's cache notices a change in the file of a function, but not in those of the functions it calls, and would go on
running old code. Here the folder of the cache is named after all that is compiled.
"""

import hashlib
import os
import stat
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


def cache_folder(sources: Path, constants: Path, base: str) -> Path:
    """Where compiled code of these sources belongs.

    Args:
        sources: folder whose Python files are compiled.
        constants: a file whose constants are compiled into them.
        base: the user's choice (NUMBA_CACHE_DIR); "" for the sources' own __pycache__, or, where that cannot be
            written, the user's cache folder.
    """
    digest = hashlib.sha256()
    for path in (*sorted(sources.glob("*.py")), constants):
        digest.update(path.read_bytes())
    own = sources / "__pycache__"
    if base:
        folder = Path(base)
    elif os.access(own if own.exists() else sources, os.W_OK):
        folder = own
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lessrl"
    return folder / f"kernels-{digest.hexdigest()[:16]}"


def usable(folder: Path) -> bool:
    """Whether this user alone can leave compiled code there: it is run when it is read back."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    found = folder.stat()
    return (
        found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(folder, os.W_OK)
    )


def compiled(function: Function) -> Function:
    """Compile at the first call; anew in each process where no cache can be kept."""
    base = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_CACHE_FOLDER)
    try:
        return cast(Function, numba.njit(cache=HAS_CACHE, nogil=True)(function))
    finally:
        numba.config.CACHE_DIR = base


CAN_COMPILE = not numba.config.DISABLE_JIT
"""Whether numba compiles at all; switched off, it would run the kernels as plain Python."""

_CACHE_FOLDER = cache_folder(Path(__file__).parent, Path(support.__file__), numba.config.CACHE_DIR)
HAS_CACHE = usable(_CACHE_FOLDER)
