"""Doors into other people's tools; nothing here is imported by the rest of the package."""
