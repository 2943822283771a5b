"""Datasets of trajectories, in batches."""
