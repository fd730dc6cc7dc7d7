"""Rollout plans, one file each: which rounds a group is sampled in."""
