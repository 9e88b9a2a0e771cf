"""Training: the configuration, one step of the game, the loop around it, and everything a run leaves behind."""
