"""Tiny checkpoints in the formats in which LLaVA-Mini and VQToken were published: config keys, weight names, shapes.

Facts, as the original repositories state them: config.json is the language model's, flat, with `mm_*` keys; its weights
keep their names, those of the tower lie under `model.vision_tower.vision_tower.vision_model`, the projector is linear,
GELU, linear. LLaVA-Mini adds `model.compressor` and `model.prefusion_layers`, VQToken `model.cross_attention` and the
newline of LLaVA-OneVision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.tiny_words import VOCABULARY, Words

WIDTH, LAYERS, HEADS, KV_HEADS, MLP = 64, 3, 4, 2, 96
TOWER_WIDTH, TOWER_LAYERS, TOWER_MLP, TOWER_HEADS = 32, 3, 48, 2
PATCH, IMAGE = 4, 16
SIDE, PLACES = IMAGE // PATCH, (IMAGE // PATCH) ** 2
MLP_OF_ATTENTION = 2048
WORDS = Words(pad="<|endoftext|>", eos="<|im_end|>", others=("<|im_start|>",))
TEXT = {
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
    "torch_dtype": "float32",
    "mm_hidden_size": TOWER_WIDTH,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "use_mm_proj": True,
}
LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}
LLAVA_MINI = {
    **TEXT,
    "architectures": ["LlavaMiniLlamaForCausalLM"],
    "model_type": "llava_mini_llama",
    "rope_scaling": LLAMA3,
    "compressor_size": 2,
    "prefusion_layer_num": 2,
    "image_aspect_ratio": "pad",
}
VQTOKEN = {
    **TEXT,
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava",
    "rope_scaling": None,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[IMAGE, 2 * IMAGE], [2 * IMAGE, IMAGE], [IMAGE, 3 * IMAGE]],
    "mm_patch_merge_type": "spatial_unpad",
    "mm_resampler_type": None,
}
SETTINGS = {"llava_mini": LLAVA_MINI, "vqtoken": VQTOKEN}


def layer(prefix: str, bias: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of one decoder layer of Llama, or of Qwen2 where queries, keys and values have a `bias`."""
    head = WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (WIDTH, WIDTH),
        "self_attn.k_proj.weight": (KV_HEADS * head, WIDTH),
        "self_attn.v_proj.weight": (KV_HEADS * head, WIDTH),
        "self_attn.o_proj.weight": (WIDTH, WIDTH),
        "mlp.gate_proj.weight": (MLP, WIDTH),
        "mlp.up_proj.weight": (MLP, WIDTH),
        "mlp.down_proj.weight": (WIDTH, MLP),
        "input_layernorm.weight": (WIDTH,),
        "post_attention_layernorm.weight": (WIDTH,),
    }
    biases = {f"self_attn.{n}_proj.bias": (WIDTH if n == "q" else KV_HEADS * head,) for n in "qkv"} if bias else {}
    return {prefix + name: shape for name, shape in (shapes | biases).items()}


def attention(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of torch's multi-head attention."""
    return {
        f"{prefix}in_proj_weight": (3 * width, width),
        f"{prefix}in_proj_bias": (3 * width,),
        f"{prefix}out_proj.weight": (width, width),
        f"{prefix}out_proj.bias": (width,),
    }


def linear(prefix: str, inside: int, outside: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (outside, inside), f"{prefix}.bias": (outside,)}


def norm(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}


def tower(clip: bool) -> dict[str, tuple[int, ...]]:
    """CLIP's, or SigLIP's without its last layer and head."""
    base, width = "model.vision_tower.vision_tower.vision_model.", TOWER_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        f"{base}embeddings.patch_embedding.weight": (width, 3, PATCH, PATCH),
        f"{base}embeddings.position_embedding.weight": (PLACES + clip, width),
    }
    if clip:
        shapes |= {f"{base}embeddings.class_embedding": (width,)} | norm(f"{base}pre_layrnorm", width)
    else:
        shapes |= {f"{base}embeddings.patch_embedding.bias": (width,)}
    for number in range(TOWER_LAYERS - (not clip)):
        own = f"{base}encoder.layers.{number}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{own}self_attn.{name}", width, width)
        shapes |= linear(f"{own}mlp.fc1", width, TOWER_MLP) | linear(f"{own}mlp.fc2", TOWER_MLP, width)
        shapes |= norm(f"{own}layer_norm1", width) | norm(f"{own}layer_norm2", width)
    return shapes | norm(f"{base}post_layernorm", width)


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every published weight of the checkpoint `name`."""
    mini = name == "llava_mini"
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (VOCABULARY, WIDTH),
        **linear("model.mm_projector.0", TOWER_WIDTH, WIDTH),
        **linear("model.mm_projector.2", WIDTH, WIDTH),
        **tower(mini),
    }
    for number in range(LAYERS):
        found |= layer(f"model.layers.{number}.", not mini)
    return found | (compressor_and_prefusion() if mini else cross_attention())


def compressor_and_prefusion() -> dict[str, tuple[int, ...]]:
    size, width = LLAVA_MINI["compressor_size"] ** 2, TOWER_WIDTH
    found: dict[str, tuple[int, ...]] = {
        "model.compressor.query": (size, width),
        "model.compressor.pos_embed": (size, width),
        **attention("model.compressor.attn.", width),
        **norm("model.compressor.ln_q", width),
        **norm("model.compressor.ln_kv", width),
    }
    for number in range(LLAVA_MINI["prefusion_layer_num"]):
        found |= layer(f"model.prefusion_layers.{number}.", False)
    return found


def cross_attention() -> dict[str, tuple[int, ...]]:
    base = "model.cross_attention."
    own = f"{base}transformer_decoder.layers.0."
    return {
        "model.image_newline": (WIDTH,),
        **linear(f"{base}to_q_proj", PLACES, WIDTH),
        **attention(f"{own}self_attn.", WIDTH),
        **attention(f"{own}multihead_attn.", WIDTH),
        **linear(f"{own}linear1", WIDTH, MLP_OF_ATTENTION),
        **linear(f"{own}linear2", MLP_OF_ATTENTION, WIDTH),
        **norm(f"{own}norm1", WIDTH),
        **norm(f"{own}norm2", WIDTH),
        **norm(f"{own}norm3", WIDTH),
    }


def weights(name: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(4)
    return {key: 0.15 * torch.randn(shape, generator=draw) for key, shape in shapes(name).items()}


def save(name: str, folder: Path, shards: int = 1, state: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """Write the checkpoint. shards: files of weights, with an index where there are several. changes: of settings."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "hidden_size": TOWER_WIDTH,
        "intermediate_size": TOWER_MLP,
        "num_hidden_layers": TOWER_LAYERS,
        "num_attention_heads": TOWER_HEADS,
        "image_size": IMAGE,
        "patch_size": PATCH,
    }
    kind = "clip_vision_model" if name == "llava_mini" else "siglip_vision_model"
    place = folder / ("clip-tower" if name == "llava_mini" else "siglip-tower")
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps({"model_type": kind, **own}))
    settings = {**SETTINGS[name], **WORDS.ids(), "mm_vision_tower": str(place), **changes}
    (folder / "config.json").write_text(json.dumps(settings))
    WORDS.tokenizer().save_pretrained(folder)
    state = weights(name) if state is None else state
    if shards == 1:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        return folder
    placed = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {key: value for n, (key, value) in enumerate(state.items()) if n % shards == number}
        save_file(part, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return folder
