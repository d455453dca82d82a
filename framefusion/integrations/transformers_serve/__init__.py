"""The OpenAI-compatible server of transformers (`transformers serve`), with the models it loads reduced.

The server is theirs. `hooks.py` takes hold of it where it loads a model and where it reads a request, `wish.py` is what
a request wants, `clips.py` shows a model a video as `framefusion run` does, `metrics.py` counts what was read,
`start.py` starts it.
"""
