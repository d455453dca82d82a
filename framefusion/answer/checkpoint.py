"""Load a model and its processor, with errors a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.errors import CheckpointError
from framefusion.registry import family_of

if TYPE_CHECKING:
    from framefusion.models.family import Family
    from framefusion.quantization.precision import Precision


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode and what turns clips and questions into its inputs.

    precision: how it is quantised, so that answers get a cache of that width; None for a model as it was loaded.
    """

    name: str
    model: Any
    processor: Any
    precision: Precision | None = None

    @property
    def family(self) -> Family:
        config = self.model.config
        return family_of(getattr(config, "model_type", None)).with_threshold_of(config)


def load_checkpoint(
    name: str,
    dtype: str = "auto",
    device: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """The checkpoint at a local path or with a hub id.

    dtype: "auto", "float32", "bfloat16" or "float16". device: "cpu", "cuda", "auto" (spread by accelerate), or None for
    the GPU if there is one. attention: "sdpa" or "eager", None for the model's default.

    Raises CheckpointError.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    options: dict[str, Any] = {"dtype": "auto" if dtype == "auto" else getattr(torch, dtype)}
    if attention is not None:
        options["attn_implementation"] = attention
    if device == "auto":
        options["device_map"] = "auto"
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
        model = AutoModelForImageTextToText.from_pretrained(name, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise _explained(name, error) from error
    if device != "auto":
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Checkpoint(name, model.eval(), processor)


def _explained(name: str, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(name).is_dir():
        hint = "the folder must hold what save_pretrained of a vision-language model and of its processor wrote"
    elif "/" not in name.strip("/") or name.startswith((".", "/")):
        hint = "give the path of a saved checkpoint, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
    else:
        hint = "check the spelling and the network; offline, give the path of a saved checkpoint"
    return CheckpointError(f"cannot load the model `{name}`", reason, hint)
