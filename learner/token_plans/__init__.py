"""Token plans, one file each: per-token weights, clip ranges and penalties from detached signals."""
