"""Studies: arms x seeds as ordinary runs, paired by seed, and what they amount to."""
