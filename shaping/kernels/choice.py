"""Which LESS kernels run: the compiled ones where numba can compile, the vectorised ones elsewhere.

numba is imported only when kernels are wanted, so that a process that never shapes does not pay for it.
"""

import importlib.util
from typing import Literal

from shaping.components import import_module_of
from shaping.kernels.base import Kernels

Backend = Literal["auto", "numba", "numpy"]

_MODULES = {"numba": "compiled.kernels", "numpy": "vectorised.kernels"}


def load_kernels(backend: Backend = "auto") -> Kernels:
    """The kernels of a backend.

    Raises:
        ValueError: "numba" where numba is not installed.
    """
    has_numba = importlib.util.find_spec("numba") is not None
    if backend == "numba" and not has_numba:
        raise ValueError('backend "numba" needs numba, which is not installed; install it or use "numpy" or "auto"')
    if backend == "auto":
        backend = "numba" if has_numba else "numpy"
    kernels: Kernels = import_module_of("shaping.kernels", _MODULES[backend]).KERNELS
    return kernels
