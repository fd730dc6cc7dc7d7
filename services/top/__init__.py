"""`lessrl top`: a run on one screen, for as long as one likes."""
