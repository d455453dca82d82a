"""Sources of frames that come as time goes by: files, growing folders, pipes, network streams and cameras.

`open_source(name, fps=...)` gives frames one by one, in the order of time and all of one size, in the memory of a few.
What happens to the source meanwhile (it stalls, breaks off, comes back) is told between the frames. Importing this room
loads neither torch nor transformers, and PyAV only when a source is opened.
"""

from .items import Frame, Notice
from .source import DEFAULT_PATIENCE, LiveSource, open_source

__all__ = ["DEFAULT_PATIENCE", "Frame", "LiveSource", "Notice", "open_source"]
