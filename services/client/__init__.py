"""The control plane as a client sees it: where it is, how it is asked, and what its answers mean."""
