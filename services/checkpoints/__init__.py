"""Checkpoints of a run on disk: whole or not there, each described by one manifest."""
