"""Ray shells: each under 60 lines, each without a decision."""
