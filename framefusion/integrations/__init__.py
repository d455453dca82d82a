"""Doors into other people's tools; only the command imports them."""
