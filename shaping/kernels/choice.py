"""Which LESS kernels run: the compiled ones where numba can compile, the vectorised ones elsewhere.

numba is imported only when kernels are wanted, so that a process that never shapes does not pay for it.
"""

import logging
from functools import cache
from typing import Literal

from shaping.components import import_module_of
from shaping.kernels.base import Kernels

Backend = Literal["auto", "numba", "numpy"]

logger = logging.getLogger(__name__)

_MODULES = {"numba": "compiled.kernels", "numpy": "vectorised.kernels"}


def load_kernels(backend: Backend = "auto") -> Kernels:
    """The kernels of a backend.

    Raises:
        ValueError: "numba" where numba cannot compile.
    """
    can_compile = backend != "numpy" and _can_compile()
    if backend == "numba" and not can_compile:
        raise ValueError('backend "numba" needs a numba that can compile; install it, or use "numpy" or "auto"')
    kernels: Kernels = import_module_of("shaping.kernels", _MODULES["numba" if can_compile else "numpy"]).KERNELS
    return kernels


@cache
def _can_compile() -> bool:
    try:
        jit = import_module_of("shaping.kernels.compiled", "jit")
    except ImportError as error:
        logger.warning("LESS runs on numpy alone, some ten times slower: numba cannot be imported (%s)", error)
        return False
    if not jit.HAS_CACHE:
        logger.warning(
            "compiled LESS kernels cannot be kept: every process compiles them anew, for about 10 s; "
            "set NUMBA_CACHE_DIR to a folder that only you can write"
        )
    return bool(jit.CAN_COMPILE)
