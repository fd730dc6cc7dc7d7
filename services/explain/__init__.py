"""`lessrl explain`: files of groups, and why each of their tokens got its advantage, in the terminal and as a page."""
