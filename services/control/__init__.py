"""The control plane: what was asked of runs, what is, and what happened. Knows neither HTTP nor Ray."""
