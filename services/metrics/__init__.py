"""Every number of a run with its meaning, what Prometheus gets of it, and what loggers call it."""
