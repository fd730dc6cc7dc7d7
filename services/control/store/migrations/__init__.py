"""Each form that the control store has had, and the way from one to the next."""
