"""Token plans, one file each: per-token weights and clip bounds from detached signals."""
