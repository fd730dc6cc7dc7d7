"""A run on a virtual clock: orchestrator, buffer and weight sync as they are, over roles that only wait."""
