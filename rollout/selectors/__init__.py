"""Prompt selectors, one file each: which prompt comes next."""
