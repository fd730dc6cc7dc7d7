"""LESS kernels compiled with numba, one file per step: runs, strings, support (or k-grams, or compat), painting."""
