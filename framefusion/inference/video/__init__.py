"""Video files in, a few frames out: decoding is PyAV's work, choosing and bounding the frames is done here.

`load_clip(path, frames=..., fps=...)` returns a `Clip`; `write_clip` makes small files for tests and demos.
Importing this room loads neither torch nor transformers, and PyAV only when a file is opened.
"""

from .clip import Clip
from .limits import DEFAULT_MAX_PIXELS
from .load import load_clip
from .sampling import sample_indices
from .write import write_clip

__all__ = ["DEFAULT_MAX_PIXELS", "Clip", "load_clip", "sample_indices", "write_clip"]
