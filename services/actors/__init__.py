"""Ray shells: each under 60 lines, each without a decision."""

HEARTBEAT = "heartbeat"
"""Concurrency group of the calls that must be answered while an actor works."""
