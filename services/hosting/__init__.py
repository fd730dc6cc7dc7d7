"""Where a control plane lives, and how the process of a run reaches it, lives and ends."""
