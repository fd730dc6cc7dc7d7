"""What the API reads from the directory of a run, while another process may write there.

Files to numbers and texts, one way, but for pins and removals of checkpoints. Every path stays below the directory,
links are refused, and each file that grows is read once: then only what is new. Knows no HTTP and no state of a run.
"""
