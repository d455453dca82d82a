"""Whatever a question can be about, by its name: pictures, folders of frames, animations, videos, addresses, stdin.

`load_media(name, reading)` returns a `Clip`, which is `still` where it is one picture. Nothing is loaded with this room
but what a name turns out to need.
"""

from .load import MediaOptions, load_all, load_media
from .names import STDIN, is_address

__all__ = ["STDIN", "MediaOptions", "is_address", "load_all", "load_media"]
