"""Regularisers, one file each: extra loss terms on differentiable quantities."""
