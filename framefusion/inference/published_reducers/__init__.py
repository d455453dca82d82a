"""Published checkpoints of trained systems, as a stock model of transformers and a learned reducer beside it."""

from framefusion.inference.published_reducers.llava_mini import load_llava_mini
from framefusion.inference.published_reducers.vqtoken import load_vqtoken

__all__ = ["load_llava_mini", "load_vqtoken"]
