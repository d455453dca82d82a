"""Fewer tokens and fewer bits together: a grid of both on the yardstick, and what to turn on first.

`grid.py` says which cells there are, `run.py` fills them through `framefusion.evaluation`, `rows.py` makes one row of
numbers per cell, and frontier, advice, figures and page are functions of the rows.
"""
