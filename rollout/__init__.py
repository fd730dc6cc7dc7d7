"""Prompts to groups of rollouts; the only package that imports vLLM."""
