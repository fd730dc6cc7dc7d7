"""Rewards, one file each: a rollout and its prompt to a number and a verdict."""
