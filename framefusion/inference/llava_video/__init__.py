"""LLaVA-Video: the published checkpoints, whose format stock transformers does not read, on stock modules."""
