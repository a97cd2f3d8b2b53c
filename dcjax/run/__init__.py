"""A run: its loop over iterations, its folder, its checkpoints, and what a config stands for."""
