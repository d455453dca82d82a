"""Load a model and its processor, with errors a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from framefusion.errors import CheckpointError
from framefusion.registry import family_of_config

if TYPE_CHECKING:
    from framefusion.models.family import Family
    from framefusion.quantization.precision import Precision

NOT_RUN = "which is not run unless you say so"
TRUST = "read that code, then pass --trust-remote-code (in Python trust_remote_code=True)"
AUTO_MODELS = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel")


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
        return family_of_config(self.model.config)


def load_checkpoint(
    name: str,
    dtype: str = "auto",
    device: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """The checkpoint at a local path or with a hub id.

    dtype: "auto", "float32", "bfloat16" or "float16". device: "cpu", "cuda", "auto" (spread by accelerate), or None for
    the GPU if there is one. attention: "sdpa" or "eager", None for the model's default. trust_remote_code: run the code
    that comes with the checkpoint, which can do anything that you can.

    Raises CheckpointError.
    """
    import torch

    options: dict[str, Any] = {"dtype": "auto" if dtype == "auto" else getattr(torch, dtype)}
    if attention is not None:
        options["attn_implementation"] = attention
    if device == "auto":
        options["device_map"] = "auto"
    try:
        model, processor = _load(name, options, trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise _explained(name, error) from error
    if device != "auto":
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Checkpoint(name, model.eval(), processor)


def family_at(name: str) -> Family:
    """The family of the checkpoint at a path or with a hub id, from its configuration alone. Raises CheckpointError."""
    from transformers import PreTrainedConfig

    from framefusion.llava_video.configuration import LlavaVideoConfig, is_llava_video

    try:
        settings, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise _explained(name, error) from error
    if is_llava_video(settings):
        settings = settings | {"model_type": LlavaVideoConfig.model_type}
    return family_of_config(SimpleNamespace(**settings))


def _load(name: str, options: dict[str, Any], trust_remote_code: bool) -> tuple[Any, Any]:
    """Model and processor: LLaVA-Video's, the checkpoint's own code where it is trusted, else transformers'."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig

    from framefusion.llava_video.configuration import is_llava_video

    settings, _ = PreTrainedConfig.get_config_dict(name)
    if is_llava_video(settings):
        from framefusion.llava_video.load import load

        return load(name, settings, options)
    if is_unknown(settings):
        _refuse_unknown(name, settings, trust_remote_code)
        return _load_own_code(name, settings, options)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
    return AutoModelForImageTextToText.from_pretrained(name, trust_remote_code=trust_remote_code, **options), processor


def is_unknown(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json has a model type that transformers does not know."""
    from transformers import CONFIG_MAPPING

    return settings.get("model_type") is not None and settings["model_type"] not in CONFIG_MAPPING


def _load_own_code(name: str, settings: Mapping[str, Any], options: dict[str, Any]) -> tuple[Any, Any]:
    """By the first automatic class that the checkpoint names; its tokenizer where it has no processor."""
    import transformers

    auto = next((kind for kind in AUTO_MODELS if kind in settings["auto_map"]), "AutoModel")
    try:
        model = getattr(transformers, auto).from_pretrained(name, trust_remote_code=True, **options)
        return model, transformers.AutoProcessor.from_pretrained(name, trust_remote_code=True)
    except Exception as error:
        raise CheckpointError(
            f"cannot load the model `{name}`",
            f"its own code failed: {type(error).__name__}: {error}",
            "the code of a checkpoint may ask for another release of transformers; its model card says which",
        ) from error


def _refuse_unknown(name: str, settings: Mapping[str, Any], trust_remote_code: bool) -> None:
    what, unknown = f"cannot load the model `{name}`", f"transformers has no model type `{settings['model_type']}`"
    if not settings.get("auto_map"):
        raise CheckpointError(
            what,
            f"{unknown}, and the checkpoint brings no code of its own",
            "load it with the package it was published with and give that model to `framefusion.reduce`, or take a "
            "checkpoint that was converted to transformers",
        )
    if not trust_remote_code:
        raise CheckpointError(what, f"{unknown}; the checkpoint brings code of its own, {NOT_RUN}", TRUST)


def _explained(name: str, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        reason, hint = f"a part of the checkpoint is code of its own, {NOT_RUN}", TRUST
    elif Path(name).is_dir():
        hint = "the folder must hold what save_pretrained of a vision-language model and of its processor wrote"
    elif "/" not in name.strip("/") or name.startswith((".", "/")):
        hint = "give the path of a saved checkpoint, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
    else:
        hint = "check the spelling and the network; offline, give the path of a saved checkpoint"
    return CheckpointError(f"cannot load the model `{name}`", reason, hint)
