"""A tiny model and a short clip, made on the spot, so that everything can be tried offline."""
