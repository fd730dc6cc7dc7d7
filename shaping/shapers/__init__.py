"""Shapers, one file each: per-token multipliers of the advantages."""
