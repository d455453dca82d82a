"""A tiny configuration of any architecture: its default one, with every size that a recipe knows made small."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, VOCABULARY = 64, 4, 2, 16, 160
TEXT_LAYERS, TOWER_LAYERS = 4, 2
PIXELS, PATCH = 32, 8
FIRST_SPECIAL = 100
"""Ids below this one are words; special tokens follow in the order of their names."""

_NAMES = {
    WIDTH: """
        hidden_size d_model embed_dim out_hidden_size patch_embed_hidden_size projection_dim projector_hidden_size
        text_hidden_size vision_output_dim output_dim word_embed_proj_dim hidden_size_per_layer_input
        projection_hidden_size projector_output_dim projector_input_dim adapter_out_dim encoder_hidden_size
        moe_hidden_size image_token_embed_dim vision_hidden_size pooler_output_size merged_hidden_size
        decoder_hidden_size moe_intermediate_size shared_expert_intermediate_size share_expert_dim
        shared_experts_intermediate_size shared_intermediate_size moe_shared_expert_intermediate_size
        num_position_embeddings""",
    2 * WIDTH: """
        intermediate_size ffn_dim d_ff mlp_dim encoder_ffn_dim decoder_ffn_dim projection_intermediate_size
        dense_intermediate_size intermediate_size_mlp downsample_hidden_size alignment_intermediate_size
        adapter_intermediate_size""",
    HEADS: """
        num_attention_heads num_heads attention_heads encoder_attention_heads decoder_attention_heads
        swa_num_attention_heads num_sliding_attention_heads conf_num_attention_heads linear_num_value_heads
        linear_num_heads n_routed_experts num_experts num_local_experts moe_num_experts""",
    KV_HEADS: """
        num_key_value_heads swa_num_key_value_heads linear_num_key_heads num_experts_per_tok moe_k moe_topk""",
    HEAD_WIDTH: """
        head_dim swa_head_dim qk_head_dim v_head_dim d_kv linear_key_head_dim linear_value_head_dim q_lora_rank
        kv_lora_rank sliding_window sliding_window_size""",
    HEAD_WIDTH // 2: "qk_nope_head_dim qk_rope_head_dim patch_size",
    1: "n_group topk_group n_shared_experts moe_num_shared_experts",
    VOCABULARY: "vocab_size vocab_size_per_layer_input mel_vocab_size unpadded_vocab_size",
    PIXELS: "image_size img_size resolution",
    512: "max_position_embeddings",
}
SIZES: Mapping[str, int] = {name: size for size, names in _NAMES.items() for name in names.split()}
DEPTHS = ("num_hidden_layers", "depth", "num_layers", "layers", "encoder_layers", "decoder_layers", "n_layers")


def shrunk(config_class: type, text: bool = False, **own: Any) -> dict[str, Any]:
    """Arguments of a tiny configuration. own: values that differ from the recipe, nested like the configuration.

    Everything else is left to the class, so that lists with an entry per layer follow from the new sizes.
    """
    default = config_class()
    made: dict[str, Any] = {}
    for name, value in list(vars(default).items()):
        if _is_config(value):
            made[name] = shrunk(type(value), _is_text(name))
            if getattr(value, "model_type", None):
                made[name]["model_type"] = value.model_type
        elif name in ("head_dim", "qk_head_dim") and hasattr(default, "qk_rope_head_dim"):
            continue  # latent attention: the sum of two other widths
        elif name == "num_key_value_heads" and hasattr(default, "qk_rope_head_dim"):
            made[name] = HEADS
        elif (small := _small(name, value, text or _reads_text(default))) is not None:
            made[name] = small
    _shrink_rope(default, made)
    return merged(made, own)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, dictionaries in depth."""
    result = dict(base)
    for name, value in over.items():
        inner = result.get(name)
        deep = isinstance(value, Mapping) and isinstance(inner, Mapping)
        result[name] = merged(inner, value) if deep else value  # type: ignore[arg-type]
    return result


def _is_config(value: Any) -> bool:
    from transformers import PreTrainedConfig

    return isinstance(value, PreTrainedConfig)


def _is_text(name: str) -> bool:
    return name.startswith(("text", "decoder", "vlm", "llm"))


def _reads_text(config: Any) -> bool:
    return hasattr(config, "vocab_size") and not any(map(_is_config, vars(config).values()))


def _small(name: str, value: Any, text: bool) -> Any:
    if isinstance(value, bool) or value is None:
        return None
    if name in DEPTHS and isinstance(value, int):
        return TEXT_LAYERS if text else TOWER_LAYERS
    if name in SIZES and isinstance(value, int):
        return SIZES[name]
    if name in ("image_size", "patch_size") and isinstance(value, (list, tuple)) and len(value) == 2:
        return [SIZES[name]] * 2
    if name == "vision_feature_layer":
        return -1 if isinstance(value, int) else [-1, -2]
    return None


def _shrink_rope(default: Any, made: dict[str, Any]) -> None:
    """Sections of a multi-axis rotary embedding must add up to half its width."""
    rope = getattr(default, "rope_parameters", None)
    if not isinstance(rope, Mapping):
        return
    width = made.get("head_dim", made.get("hidden_size", WIDTH) // HEADS)
    made["rope_parameters"] = _sectioned(rope, width)


def _sectioned(rope: Mapping[str, Any], width: int) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in rope.items():
        if isinstance(value, Mapping):
            changed[name] = _sectioned(value, width)
        elif name == "mrope_section" and value:
            half = int(width * rope.get("partial_rotary_factor", 1.0)) // 2
            rest = half // len(value)
            changed[name] = [half - rest * (len(value) - 1)] + [rest] * (len(value) - 1)
        else:
            changed[name] = value
    return changed


SPECIAL_ENDINGS = ("_token_id", "_token_index", "_token_ids", "_patch_id", "_start_id", "_end_id", "_newline_id")


def name_special_tokens(config: Any) -> None:
    """Give every special token that a configuration names, in depth, an id of the small vocabulary."""
    for name in ("image_token_id", "image_token_index", "video_token_id", "video_token_index"):
        if name in vars(config) and getattr(config, name) is None:
            setattr(config, name, 0)
    ids = _ids(config)
    names = sorted({name for _, name in ids if not name.startswith(("pad_", "bos_", "eos_"))})
    number = {name: FIRST_SPECIAL + index for index, name in enumerate(names)}
    number |= {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
    last = VOCABULARY
    for part, name in ids:
        value = getattr(part, name)
        if isinstance(value, (list, tuple)):
            last -= len(value)
            setattr(part, name, list(range(last, last + len(value))))
        else:
            with contextlib.suppress(AttributeError):
                setattr(part, name, number.get(name, 4))


def _ids(config: Any) -> list[tuple[Any, str]]:
    found = []
    for part in parts(config):
        for name, value in vars(part).items():
            if name.lstrip("_").endswith(SPECIAL_ENDINGS) and value is not None and not isinstance(value, bool):
                found.append((part, name))
    return found


def parts(config: Any) -> Iterator[Any]:
    """A configuration and all configurations in it."""
    yield config
    for value in vars(config).values():
        if _is_config(value):
            yield from parts(value)
