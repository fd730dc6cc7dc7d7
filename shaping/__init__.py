"""Pure arithmetic and the shared vocabulary of lessrl: numpy and the standard library only."""
