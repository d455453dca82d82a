"""Reduce a model and ask it: checkpoints, clips, answers, batches, fewer bits."""
