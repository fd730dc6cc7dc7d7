"""Loggers of a run beside its own metrics.jsonl: one file each, named as its kind (`run.loggers`)."""
