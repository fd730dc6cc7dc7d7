"""Training samples to new weights; the only package that imports DeepSpeed."""
