"""The commands of `lessrl`, a file for each subject. Thin: each reads its words and calls one thing."""
