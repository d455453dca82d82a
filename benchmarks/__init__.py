"""What a reduction costs and saves in time and memory, beside the dense model and beside removal for free.

`framefusion bench` runs it. Cells are data (`cells.py`), results are rows (`rows.py`), everything shown is a function
of the rows (`show/`). Nothing here is part of the installed package.
"""
