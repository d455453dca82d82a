"""Trains the embedded model from nothing: see README.md in this folder."""
