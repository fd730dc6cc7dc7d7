"""Data sources, one file each: where prompts come from."""
