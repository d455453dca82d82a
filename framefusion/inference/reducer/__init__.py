"""Learned reducers as folders: read back, and found by name."""

from framefusion.inference.reducer.load import load_reducer, reducer_at

__all__ = ["load_reducer", "reducer_at"]
