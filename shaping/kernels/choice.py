"""Which LESS kernels run: the compiled ones where numba can compile, the vectorised ones elsewhere.

numba is imported only when kernels are wanted, so that a process that never shapes does not pay for it.
"""

import importlib.util
from dataclasses import replace
from typing import Literal

import numpy as np

from shaping.components import import_module_of
from shaping.kernels.base import GroupArrays, Kernels, SegmentRule

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


def warm_up(rule: SegmentRule, *, compat: bool) -> None:
    """Compile, or load from numba's cache, what a run with this rule calls. Seconds when nothing is cached.

    Args:
        compat: also what the authors' matching calls.
    """
    tokens = np.array([1, 2, 3, 9, 1, 2, 3, 9], np.int32)
    group = GroupArrays(
        tokens=tokens,
        entropies=(tokens == 9).astype(np.float32),
        offsets=np.array([0, 4, 8], np.int64),
        correct=np.array([True, False]),
    )
    rule = replace(rule, min_length=2)
    kernels = load_kernels()
    multipliers = np.empty(len(tokens), np.float32)
    for _, support in kernels.find_support([group], rule, np.empty(len(tokens), np.int32)):
        kernels.paint(group, support, "share", multipliers)
    if compat:
        kernels.compat_multipliers([group], rule, "share", multipliers)
