"""The embedded model: a small Qwen2.5-VL, trained on the yardstick, that answers short questions about short clips.

`README.md` beside this file is its model card; `training/` in the repository makes both.
"""

from pathlib import Path

NAME = "framefusion/tiny"
CHECKPOINT = Path(__file__).parent / "checkpoint"
