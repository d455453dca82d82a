"""The families of the FrameFusion paper whose checkpoints bring code of their own, and their published thresholds.

Names are the `model_type` in those checkpoints' configurations. Their layout is found from the runs of placeholders.
"""

from __future__ import annotations

from framefusion.models.family import Family
from framefusion.models.rules import by_runs

MINICPM_V = Family("minicpmv", by_runs, similarity_lower_bound=0.7, video_as_images=True, tested=False)
NVILA = Family("llava_llama", by_runs, similarity_lower_bound=0.7, tested=False)
INTERNVL_CHAT = Family("internvl_chat", by_runs, similarity_lower_bound=0.5, tested=False)
