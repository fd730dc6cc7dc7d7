"""Prompt memories, one file each: what is remembered of a prompt between its visits."""
