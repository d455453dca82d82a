"""Checks for whoever writes a method or a model family, here or elsewhere.

`python -m framefusion.testing FOLDER` runs the golden cases of a folder.
"""
