"""What is installed, what of it is tested, what would be used, and whether a reduction is right on it.

`diagnose()` returns a `Diagnosis`; nothing in this room raises for what it finds.
"""

from .diagnose import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
