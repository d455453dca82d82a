"""Load a model and its processor, with errors a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from framefusion.core.options import DTYPES, OneOf, checked
from framefusion.core.registry import family_of_config
from framefusion.inference.answer.device import SPREAD, resolved
from framefusion.inference.answer.foreign import NOT_RUN, TRUST, reading, reason_of, refused
from framefusion.inference.answer.headers import check_headers
from framefusion.inference.answer.model_adapter import with_adapter
from framefusion.inference.answer.quiet import without_chatter
from framefusion.inference.answer.settings import check_placeholders, forget_code_of_parts, read_settings
from framefusion.inference.answer.weights import check_files, check_loaded, check_size
from framefusion.inference.tiny import place_of

if TYPE_CHECKING:
    from framefusion.inference.quantization.precision import Precision
    from framefusion.models.family import Family

AUTO_MODELS = ("AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel")
CONFIGURATION = "its configuration"


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode and what turns clips and questions into its inputs.

    Args:
        name: path or hub id.
        model: of transformers.
        processor: of transformers.
        precision: how it is quantised, so that answers get a cache of that width; None for a model as it was loaded.

    Example:
        >>> checkpoint = ff.load_checkpoint("framefusion/tiny", device="cpu")
        >>> checkpoint.family.name
        'qwen2_5_vl'
    """

    name: str
    model: Any
    processor: Any
    precision: Precision | None = None

    @property
    def family(self) -> Family:
        """What is known about models of its kind, with the threshold it carries."""
        return family_of_config(self.model.config)


def load_checkpoint(
    name: str,
    dtype: str = "auto",
    device: str | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
    adapter: str | Path | None = None,
) -> Checkpoint:
    """The checkpoint at a local path or with a hub id.

    Args:
        name: path or hub id; `framefusion/tiny` is the embedded model.
        dtype: "auto", "float32", "bfloat16" or "float16".
        device: "cpu", "cuda", "auto" (spread by accelerate), or None for the GPU if there is one.
        attention: "sdpa" or "eager", None for the model's default.
        trust_remote_code: run the code that comes with the checkpoint, which can do anything that you can.
        adapter: of the model, path or hub id of what PEFT wrote; merged into its weights.

    Returns:
        Model, in eval mode, and processor.

    Raises:
        CheckpointError: what is wrong with the checkpoint: files that are missing, damaged or not its own, settings
            that make no model, weights that are missing, misnamed or of another size.
        OptionError: a dtype or a device that is not there.
        MissingPackageError: an adapter without the package peft.

    Example:
        >>> checkpoint = ff.load_checkpoint("framefusion/tiny", device="cpu")
        >>> type(checkpoint.model).__name__
        'Qwen2_5_VLForConditionalGeneration'
    """
    options = options_of(dtype, device, attention)
    with without_chatter():
        model, processor = _load(place_of(name), options, bool(trust_remote_code))
        if adapter is not None:
            model = with_adapter(model, str(adapter))
    checkpoint = Checkpoint(name, placed(name, model, device).eval(), processor)
    _ = checkpoint.family  # a threshold that it carries is read here rather than in the first prompt
    return checkpoint


def options_of(dtype: str, device: str | None, attention: str | None) -> dict[str, Any]:
    """Options of `from_pretrained` for those of `load_checkpoint`. Raises OptionError."""
    import torch

    checked("dtype", Annotated[str, OneOf(*DTYPES)], dtype)
    options: dict[str, Any] = {"dtype": "auto" if dtype == "auto" else getattr(torch, dtype)}
    if attention is not None:
        options["attn_implementation"] = attention
    if resolved(device) == SPREAD:
        options["device_map"] = SPREAD
    return options


def placed(name: str, model: Any, device: str | None) -> Any:
    """`model` where it belongs, unless accelerate has spread it. Raises CheckpointError where it does not fit."""
    place = resolved(device)
    if place == SPREAD:
        return model
    with reading(name, place):
        return model.to(place)


def family_at(name: str) -> Family:
    """The family of the checkpoint at a path or with a hub id, from its configuration alone. Raises CheckpointError."""
    from framefusion.inference.llava_video.configuration import LlavaVideoConfig, is_llava_video

    settings = read_settings(place_of(name))
    if is_llava_video(settings):
        settings = {**settings, "model_type": LlavaVideoConfig.model_type}
    return family_of_config(SimpleNamespace(**settings))


def configuration_of(name: str, trust_remote_code: bool = False) -> Any:
    """The configuration a model is built from, before its weights are read. Raises CheckpointError."""
    from transformers import AutoConfig

    from framefusion.inference.llava_video.configuration import is_llava_video, translate

    name = place_of(name)
    settings = read_settings(name)
    if is_llava_video(settings):
        with reading(name, CONFIGURATION):
            return translate(name, settings, trust_remote_code)
    if is_unknown(settings):
        _refuse_unknown(name, settings, trust_remote_code)
    with reading(name, CONFIGURATION):
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)


def check_stored(name: str) -> dict[str, Any]:
    """config.json of a checkpoint; CheckpointError where its files contradict each other before a model is built."""
    settings = read_settings(name)
    check_files(name, settings)
    check_headers(name, settings)
    return settings


def _load(name: str, options: dict[str, Any], trust_remote_code: bool) -> tuple[Any, Any]:
    """Model and processor: LLaVA-Video's, the checkpoint's own code where it is trusted, else transformers'."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from framefusion.inference.llava_video.configuration import is_llava_video

    settings = check_stored(name)
    if is_llava_video(settings):
        from framefusion.inference.llava_video.load import load

        return load(name, settings, options, trust_remote_code)
    if is_unknown(settings):
        _refuse_unknown(name, settings, trust_remote_code)
        return _load_own_code(name, settings, options)
    trust = {"trust_remote_code": trust_remote_code}
    config = configuration_of(name, trust_remote_code)
    if forget_code_of_parts(config):
        options = options | {"config": config}
    check_size(name, lambda: AutoModelForImageTextToText.from_config(config, **trust), settings)
    with reading(name, "its processor"):
        processor = AutoProcessor.from_pretrained(name, **trust)
    with reading(name, "its model"):
        model, found = AutoModelForImageTextToText.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **trust, **options
        )
    check_loaded(name, found)
    check_placeholders(name, model.config)
    return model, processor


def is_unknown(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json has a model type that transformers does not know."""
    from transformers import CONFIG_MAPPING

    return settings.get("model_type") is not None and settings["model_type"] not in CONFIG_MAPPING


def _load_own_code(name: str, settings: Mapping[str, Any], options: dict[str, Any]) -> tuple[Any, Any]:
    """By the first automatic class that the checkpoint names; its tokenizer where it has no processor."""
    import transformers

    auto = next((kind for kind in AUTO_MODELS if kind in settings["auto_map"]), "AutoModel")
    try:
        loaded = getattr(transformers, auto).from_pretrained(
            name, trust_remote_code=True, output_loading_info=True, **options
        )
        processor = transformers.AutoProcessor.from_pretrained(name, trust_remote_code=True)
    except Exception as error:
        raise refused(
            name,
            f"its own code failed: {reason_of(error)}",
            "the code of a checkpoint may ask for another release of transformers; its model card says which",
        ) from error
    # Own code that loads itself may not tell what it found.
    model, found = loaded if isinstance(loaded, tuple) else (loaded, None)
    if found is not None:
        check_loaded(name, found)
    return model, processor


def _refuse_unknown(name: str, settings: Mapping[str, Any], trust_remote_code: bool) -> None:
    unknown = f"transformers has no model type `{settings['model_type']}`"
    if not settings.get("auto_map"):
        raise refused(
            name,
            f"{unknown}, and the checkpoint brings no code of its own",
            "load it with the package it was published with and give that model to `framefusion.reduce`, or take a "
            "checkpoint that was converted to transformers",
        )
    if not trust_remote_code:
        raise refused(name, f"{unknown}; the checkpoint brings code of its own, {NOT_RUN}", TRUST)
