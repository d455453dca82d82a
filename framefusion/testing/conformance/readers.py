"""A family's own processor with the defaults of its classes, and a tiny model that reads what it writes.

Nothing is downloaded: the vocabulary is the 256 bytes and whatever special tokens the processor asks for.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from framefusion.testing.conformance.reading import OPTIONS, SAME_READER
from framefusion.testing.conformance.shrink import _ids, merged, name_special_tokens, parts, shrunk
from framefusion.testing.conformance.sizes import SIZES_OF

NAMED = """
    image audio video boi eoi boa eoa eol image_start image_end video_start video_end vision_start vision_end
    slice_start slice_end image_id_start image_id_end context_image start_image end_image img_line_break
    image_break image_boundary fake_image global_image end_of_utterance image_thumbnail eof image_wrapper
    vision_bos vision_eos audio_bos audio_eos audio_start audio_end video_sep row document
"""
"""Special tokens that processors look up as attributes of their tokenizer."""

LITERAL = re.compile(r"""["'](<[^<>"'\s]+>|<\|[^"']+\|>|\]<\][^"']+\[>\[|\[[A-Z_]+\]|\|[A-Z]+\|)["']|(<\|[a-z_]+\|>)""")
VOCABULARY = 1024
BLIND = 1e-8
"""Spread of weights that are initialised so small, or as zeros, that nothing of a picture would come through."""
FIXED = (
    "patch_size",
    "image_size",
    "img_size",
    "num_position_embeddings",
    "position_embedding_size",
    "window_size",
    "image_grid_pinpoints",
)
"""Sizes that tie a model to the pictures its processor makes, left at their defaults."""


def tokenizer_for(source: str, without: Sequence[str] = (), prefix: str = "", **named: str) -> Any:
    """A byte-level tokenizer with every special token that `source` spells out or takes from its tokenizer.

    prefix: written in front of every text, special tokens too, as SentencePiece does.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    attributes = {f"{name}_token": f"<|{name}_token|>" for name in NAMED.split() if name not in without} | named
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    ends = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    found = sorted(one or other for one, other in LITERAL.findall(source))
    special = dict.fromkeys([*ends.values(), *attributes.values(), *found])
    backend.add_special_tokens(list(special))

    class Prefixed(PreTrainedTokenizerFast):
        def __call__(self, text: str, **options: Any) -> Any:
            return super().__call__(prefix + text, **options)

    return (Prefixed if prefix else PreTrainedTokenizerFast)(
        tokenizer_object=backend, extra_special_tokens=attributes, padding_side="left", **ends
    )


@cache
def reader_of(model_type: str) -> Any:
    """The processor of a family. Raises what building it raises."""
    import transformers

    name = SAME_READER.get(model_type, model_type)
    given = OPTIONS.get(model_type, {})
    named = given.get("reader") or _named("processing_auto", "PROCESSOR_MAPPING_NAMES", name)
    kind = getattr(transformers, named)
    source = inspect.getsource(inspect.getmodule(kind))  # type: ignore[arg-type]
    made = {part: _part(part, name, source, given) for part in kind.get_attributes()}
    return kind(**made, **given.get("processor", {}))


PARTS = {
    "image_processor": ("image_processing_auto", "IMAGE_PROCESSOR_MAPPING_NAMES"),
    "video_processor": ("video_processing_auto", "VIDEO_PROCESSOR_MAPPING_NAMES"),
    "feature_extractor": ("feature_extraction_auto", "FEATURE_EXTRACTOR_MAPPING_NAMES"),
    "audio_processor": ("feature_extraction_auto", "FEATURE_EXTRACTOR_MAPPING_NAMES"),
}


def _part(part: str, name: str, source: str, given: Mapping[str, Any]) -> Any:
    import transformers

    if part.endswith("tokenizer"):
        return tokenizer_for(source, given.get("without", ()), given.get("prefix", ""), **given.get("words", {}))
    named = given.get("classes", {}).get(part) or _named(*PARTS[part], name)
    return getattr(transformers, named)(**given.get(part, {}))


def _named(module: str, table: str, name: str) -> str:
    """The class an auto mapping names for a family."""
    from importlib import import_module

    known = getattr(import_module(f"transformers.models.auto.{module}"), table)
    if name not in known:
        raise LookupError(f"transformers names no processor for {name}")
    found = known[name]
    if isinstance(found, Mapping):
        found = found.get("torchvision") or found.get("pil")
    return found[-1] if isinstance(found, (tuple, list)) else found


def reading_config(model_type: str) -> Any:
    """A tiny configuration with the picture sizes of the class's defaults and the special tokens of its reader."""
    from transformers import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[model_type]
    given = merged(_true_sizes(config_class()), OPTIONS.get(model_type, {}).get("config", {}))
    config = config_class(**merged(shrunk(config_class, **SIZES_OF.get(model_type, {})), given))
    for part in parts(config):
        for name in ("vocab_size", "vocab_size_per_layer_input"):
            if getattr(part, name, None):
                setattr(part, name, VOCABULARY)
    name_special_tokens(config)
    _take_ids(config, reader_of(model_type))
    for name, token in OPTIONS.get(model_type, {}).get("ids", {}).items():
        setattr(config, name, reader_of(model_type).tokenizer.convert_tokens_to_ids(token))
    if getattr(config, "vocabulary_map", None):
        words = reader_of(model_type).tokenizer
        config.vocabulary_map = {**config.vocabulary_map, "<image>": words.image_token_id}
    return config


def _true_sizes(default: Any) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    made: dict[str, Any] = {}
    for name, value in vars(default).items():
        if isinstance(value, PreTrainedConfig):
            inner = _true_sizes(value)
            if inner:
                made[name] = inner
        elif name in FIXED and value is not None:
            made[name] = value
    return made


def _take_ids(config: Any, reader: Any) -> None:
    """Give every special token of the configuration the id that the reader writes."""
    words = reader.tokenizer
    for part, name in _ids(config):
        token = name.replace("_index", "_id")
        found = getattr(reader, token, None)
        if not isinstance(found, int):
            text = getattr(reader, token.removesuffix("_id"), None)
            text = getattr(text, "content", text)
            known = isinstance(text, str) and text in words.get_vocab()
            found = words.convert_tokens_to_ids(text) if known else getattr(words, token, None)
        if isinstance(found, int):
            setattr(part, name, found)


def reading_model(model_type: str, class_name: str) -> Any:
    """A model for `reading_config`, with the weights of its own initialisation."""
    import transformers

    config = reading_config(model_type)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, class_name)._from_config(config, attn_implementation="eager")
        silent = OPTIONS.get(model_type, {}).get("silent")
        for name, weight in model.named_parameters():
            if silent and re.search(silent, name):
                torch.nn.init.zeros_(weight)
            elif weight.ndim > 1 and float(weight.detach().std()) < BLIND:
                torch.nn.init.normal_(weight, std=0.02)
    return model.eval()
