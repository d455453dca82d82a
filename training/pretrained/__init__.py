"""A yardstick with pretrained halves: a trained ViT and a small chat model, joined by a projector that is trained here.

Everything is fetched and built on the user's machine; none of it is part of the package. `docs/pretrained-yardstick.md`
says how to run it.
"""
