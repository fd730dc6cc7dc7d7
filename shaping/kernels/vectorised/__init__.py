"""LESS kernels in plain numpy, a chunk of groups at once: layout, strings, support (or compat), painting."""
