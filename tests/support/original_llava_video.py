"""A tiny checkpoint in the format in which LLaVA-Video was published: its config keys and its weight names.

Facts, as the original repository and its model cards state them: config.json is Qwen2's, flat, with `mm_*` keys; the
weights of Qwen2 keep their names, the tower's lie under `model.vision_tower.vision_tower.vision_model`, the projector
is a sequence of linear, GELU, linear, and there is one more vector, `model.image_newline`. The tower is saved without
its last layer and its pooling head.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.tiny_words import VOCABULARY, Words

WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN_MLP = 64, 3, 4, 2, 96
TOWER_WIDTH, TOWER_LAYERS, TOWER_MLP, TOWER_HEADS = 32, 3, 48, 2
PATCH, IMAGE = 4, 20
SIDE = IMAGE // PATCH  # odd, as the published 27: pooling rounds up or down
STD = 0.15
WORDS = Words(pad="<|endoftext|>", eos="<|im_end|>", others=("<|im_start|>",))


def settings(tower: str, **others: Any) -> dict[str, Any]:
    """config.json. tower: path of a folder with the configuration of the whole SigLIP tower."""
    return {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN_MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096,
        "max_window_layers": LAYERS,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 5000.0,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
        "torch_dtype": "float32",
        "image_aspect_ratio": "anyres_max_4",
        "image_grid_pinpoints": [[IMAGE, 2 * IMAGE], [2 * IMAGE, IMAGE], [IMAGE, 3 * IMAGE]],
        "add_faster_video": False,
        "mm_hidden_size": TOWER_WIDTH,
        "mm_newline_position": "grid",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": tower,
        "use_mm_proj": True,
        **{f"{name}_token_id": WORDS.id(token) for name, token in (("pad", WORDS.pad), ("eos", WORDS.eos))},
    } | others


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the original names, every one of a size that counts."""
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (VOCABULARY, WIDTH),
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "model.norm.weight": (WIDTH,),
        "model.image_newline": (WIDTH,),
        "model.mm_projector.0.weight": (WIDTH, TOWER_WIDTH),
        "model.mm_projector.0.bias": (WIDTH,),
        "model.mm_projector.2.weight": (WIDTH, WIDTH),
        "model.mm_projector.2.bias": (WIDTH,),
    }
    kv = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        for name, rows in (("q", WIDTH), ("k", kv), ("v", kv)):
            shapes[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = (rows, WIDTH)
            shapes[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"model.layers.{layer}.self_attn.o_proj.weight"] = (WIDTH, WIDTH)
        for name in ("gate", "up"):
            shapes[f"model.layers.{layer}.mlp.{name}_proj.weight"] = (HIDDEN_MLP, WIDTH)
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = (WIDTH, HIDDEN_MLP)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{name}.weight"] = (WIDTH,)
    tower = {f"model.vision_tower.vision_tower.vision_model.{name}": shape for name, shape in _tower_shapes().items()}
    draw = torch.Generator().manual_seed(seed)
    made = {name: STD * torch.randn(shape, generator=draw) for name, shape in sorted((shapes | tower).items())}
    for name, value in made.items():
        if "norm" in name and name.endswith("weight"):
            value += 1.0
    # Special tokens are never the greedy choice.
    made["lm_head.weight"][256:] = 0.0
    return made


def _tower_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (TOWER_WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (TOWER_WIDTH,),
        "embeddings.position_embedding.weight": (SIDE * SIDE, TOWER_WIDTH),
        "post_layernorm.weight": (TOWER_WIDTH,),
        "post_layernorm.bias": (TOWER_WIDTH,),
    }
    parts = {
        **{f"self_attn.{name}_proj": (TOWER_WIDTH, TOWER_WIDTH) for name in ("q", "k", "v", "out")},
        "mlp.fc1": (TOWER_MLP, TOWER_WIDTH),
        "mlp.fc2": (TOWER_WIDTH, TOWER_MLP),
    }
    for layer in range(TOWER_LAYERS - 1):
        for name, shape in parts.items():
            shapes[f"encoder.layers.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layers.{layer}.{name}.bias"] = shape[:1]
        for name in ("layer_norm1", "layer_norm2"):
            shapes[f"encoder.layers.{layer}.{name}.weight"] = (TOWER_WIDTH,)
            shapes[f"encoder.layers.{layer}.{name}.bias"] = (TOWER_WIDTH,)
    return shapes


def save(folder: Path, seed: int = 0, **others: Any) -> dict[str, Tensor]:
    """Write the checkpoint, in two files with an index, and return its weights. others: replace config keys."""
    tower = folder / "siglip-tiny"
    tower.mkdir(parents=True)
    sizes = {
        "hidden_size": TOWER_WIDTH,
        "intermediate_size": TOWER_MLP,
        "num_hidden_layers": TOWER_LAYERS,
        "num_attention_heads": TOWER_HEADS,
        "image_size": IMAGE,
        "patch_size": PATCH,
    }
    (tower / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": sizes}))
    (folder / "config.json").write_text(json.dumps(settings(str(tower), **others)))
    WORDS.tokenizer().save_pretrained(folder)
    made = weights(seed)
    files = [f"model-{number}-of-00002.safetensors" for number in ("00001", "00002")]
    where = {name: files[number % 2] for number, name in enumerate(made)}
    for file in files:
        save_file({name: made[name] for name in made if where[name] == file}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": sum(4 * value.numel() for value in made.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return made
