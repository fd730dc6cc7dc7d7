"""Schedules, one file each: a learner step to a number."""
