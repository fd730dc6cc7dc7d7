"""The LESS search on flat arrays, twice: compiled with numba, and vectorised with numpy; equal bit for bit."""
