"""The embedded model: a small Qwen2.5-VL, trained on the yardstick, that answers short questions about short clips.

`README.md` beside this file is its model card; `training/` in the repository makes both.
"""

from pathlib import Path

NAME = "framefusion/tiny"
CHECKPOINT = Path(__file__).parent / "checkpoint"


def place_of(model: str) -> str:
    """The embedded model's folder for its name; any other name as it is."""
    return str(CHECKPOINT) if model == NAME else model


def is_embedded(model: str) -> bool:
    """Whether a name or path is that of the embedded model."""
    try:
        return model == NAME or Path(model).resolve() == CHECKPOINT.resolve()
    except (OSError, ValueError):  # no name of a file
        return False
