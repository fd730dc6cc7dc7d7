"""Which LESS kernels run: the compiled ones where numba can compile, the vectorised ones elsewhere.

numba is imported only when kernels are wanted, so that a process that never shapes does not pay for it.
"""

from functools import cache
from typing import Literal

from shaping.components import import_module_of
from shaping.kernels.base import Kernels

Backend = Literal["auto", "numba", "numpy"]

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
        return bool(import_module_of("shaping.kernels.compiled", "jit").CAN_COMPILE)
    except ImportError:
        return False
