"""The example clip that comes with the package, and what can be asked about it."""
