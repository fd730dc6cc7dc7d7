"""A skipped step of a run once more: the learner's half on its saved groups, or the rollout half that sampled them."""
